"""A real TensorBoard, asked over HTTP."""

import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import contextmanager
from pathlib import Path

SECONDS = 60


@contextmanager
def serving(logs):
    """Serves a folder of runs on a free port, and yields the address."""
    with (
        tempfile.NamedTemporaryFile("r", encoding="utf-8") as output,
        open(output.name, "w", encoding="utf-8") as stderr,
    ):
        command = [sys.executable, "-m", "tensorboard.main", "--logdir", logs]
        process = subprocess.Popen([*command, "--host", "127.0.0.1", "--port", "0"], stderr=stderr)
        try:
            yield _address(Path(output.name), process)
        finally:
            process.terminate()
            process.wait()


def _address(log, process):
    for _ in range(10 * SECONDS):
        words = [word for word in log.read_text().split() if word.startswith("http://127.0.0.1:")]
        if words:
            return words[0]
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def ask(server, route):
    """Asks until the server has loaded the run, which is when it gives the same answer twice."""
    address = urllib.parse.urljoin(server, f"data/plugin/{route}")
    before = None
    for _ in range(4 * SECONDS):
        content = _answer(address)
        if content == before and content.strip() not in (b"", b"{}", b"[]"):
            return content
        before = content
        time.sleep(0.25)
    raise AssertionError(f"{address} answers {before!r}")


def _answer(address):
    try:
        with urllib.request.urlopen(address) as answer:
            return answer.read()
    except urllib.error.HTTPError as error:
        if error.code not in (400, 404):  # what is not loaded yet
            raise
        return b""
