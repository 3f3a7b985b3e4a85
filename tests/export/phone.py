"""The phone page's server, while it runs: in a thread, or as the command in a process."""

import http.client
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from resnet_keras.export.serving import make_server

POLL = 0.01  # seconds, after which a server notices that it is to end
SERVE = (
    "import sys, pathlib, resnet_keras.export.serving as s; s.serve(pathlib.Path(sys.argv[1]), 0)"
)


@contextmanager
def running(folder: Path) -> Iterator[ThreadingHTTPServer]:
    """Serves an export from a thread of this process."""
    with make_server(folder, 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=[POLL])
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def served(folder: Path, script: str = SERVE) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Serves an export from a process, as the command does: its address, and the process."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, folder],
        # A shell that runs the tests in the background lets them ignore it.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        process.stdout.readline()
        yield process.stdout.readline().split()[-1], process
    finally:
        process.kill()
        process.communicate()


def ask(port: int, path: str, method: str = "GET", **headers: str) -> tuple[int, Any, bytes]:
    """Status, headers and body that the server on this machine answers with."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def description(port: int) -> dict[str, Any]:
    """What the server tells the page of the export."""
    return json.loads(ask(port, "/export.json")[2])
