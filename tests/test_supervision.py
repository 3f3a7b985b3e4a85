"""Processes that train together; chaos_hosts.py loses some of them."""

import os
import signal
import subprocess
import sys
import time

import pytest

from resnet_keras import cli, supervision

PROGRAM = [sys.executable, "-c", "from resnet_keras.cli import main; main()"]


def start(*arguments, **variables):
    return subprocess.Popen(
        [*PROGRAM, *map(str, arguments)],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ours(stderr):
    return [line for line in stderr.splitlines() if line.startswith("resnet-keras: ")]


def commands(monkeypatch, *scripts):
    """Makes `supervise` run these pieces of Python."""
    monkeypatch.setattr(supervision, "_PROGRAM", "import sys; exec(sys.argv[2])")
    return [[script] for script in scripts]


SLEEP = "import time; time.sleep(60)"


def test_all_well_is_status_0(monkeypatch):
    assert supervision.supervise(commands(monkeypatch, "pass", "print('unheard')")) == 0


def test_the_others_of_a_killed_process_are_stopped(monkeypatch, capfd):
    started = time.monotonic()
    kill = "import os; os.kill(os.getpid(), 9)"
    assert supervision.supervise(commands(monkeypatch, SLEEP, kill)) == 1
    assert time.monotonic() - started < 30
    assert "process 1 of 2 was killed (SIGKILL); the others are stopped" in capfd.readouterr().err


def test_a_process_that_fails_tells_why(monkeypatch, capfd):
    monkeypatch.setattr(supervision, "GRACE_SECONDS", 0.5)
    fail = "import sys; print('no such data', file=sys.stderr); sys.exit(2)"
    assert supervision.supervise(commands(monkeypatch, SLEEP, fail)) == 2
    assert capfd.readouterr().err == "[1] no such data\n"


@pytest.mark.parametrize("end", ["os.abort()", "os._exit(75)"])
def test_a_process_that_lost_another_one(monkeypatch, capfd, end):
    assert supervision.supervise(commands(monkeypatch, f"import os; {end}")) == 1
    (line,) = ours(capfd.readouterr().err)
    assert "another process of this training was lost" in line


def test_a_signal_before_training_ends_them_all(tmp_path):
    told = tmp_path / "child"
    child = f"import pathlib, time; pathlib.Path({str(told)!r}).touch(); time.sleep(60)"
    script = f"""
from resnet_keras import supervision
supervision._PROGRAM = "import sys; exec(sys.argv[2])"
raise SystemExit(supervision.supervise([[{child!r}], [{child!r}]]))
"""
    command = [sys.executable, "-c", script]
    parent = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not told.exists():
        assert parent.poll() is None
        time.sleep(0.05)
    parent.terminate()
    _, errors = parent.communicate(timeout=30)
    assert errors == "resnet-keras: interrupted; the same command goes on\n"
    assert parent.returncode == 128 + signal.SIGTERM


def test_children_end_with_a_parent_that_was_killed(tmp_path):
    told = tmp_path / "child"
    child = f"""
import os, pathlib, time
from resnet_keras import supervision
supervision.follow_parent()
pathlib.Path({str(told)!r}).write_text(str(os.getpid()))
time.sleep(60)
"""
    script = f"""
from resnet_keras import supervision
supervision._PROGRAM = "import sys; exec(sys.argv[2])"
supervision.supervise([[{child!r}]])
"""
    parent = subprocess.Popen([sys.executable, "-c", script])
    while not (told.exists() and told.read_text()):
        assert parent.poll() is None
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 20
    while is_running(int(told.read_text())):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(process):
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["launch", "-n", "0", "train", "resnet20"], "at least 1 process. Received: 0"),
        (["launch", "-n", "2", "list"], "only training is launched. Received: list"),
        (["launch", "-n", "2"], "only training is launched. Received: nothing"),
    ],
)
def test_what_cannot_be_launched(capsys, arguments, words):
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--hosts", "node1"], "unknown hosts. Received: 'node1'; accepted: auto, or HOST:PORT"),
        (["--hosts", "node1:9000"], "Received: --process None --processes None"),
        (
            ["--hosts", "node1:9000", "--process", "2", "--processes", "2"],
            "Received: --process 2 --processes 2; accepted: a number from 0 on",
        ),
        (["--hosts", "auto", "--process", "0"], "--process goes with an address"),
    ],
)
def test_hosts_that_make_no_sense(capfd, options, words):
    with pytest.raises(SystemExit) as end:
        cli.main(["train", "resnet20", *options])
    assert end.value.code == 2
    (line,) = ours(capfd.readouterr().err)
    assert words in line


@pytest.mark.slow
def test_joined_processes_can_be_stopped_before_they_train(tmp_path):
    """JAX's own service would take SIGTERM from the moment on when they have joined."""
    run = tmp_path / "run"
    options = ("--image-size", "8", "--run", run)
    process = start("launch", "-n", 2, "train", "resnet20", *options)
    while not (run / "run.json").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.terminate()
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, output + errors
    assert "the same command goes on" in ours(errors)[-1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "words"),
    [
        ("tensorflow", "needs the JAX backend. Received: KERAS_BACKEND=tensorflow"),
        ("jax", "the processes cannot be joined (coordinator_address should be defined.)"),
    ],
)
def test_hosts_without_jax_or_a_cluster(tmp_path, backend, words):
    options = ("--hosts", "auto")
    process = start("train", "resnet20", "--run", tmp_path / "run", *options, KERAS_BACKEND=backend)
    _, errors = process.communicate()
    assert process.returncode == 2
    (line,) = ours(errors)
    assert words in line
    assert not (tmp_path / "run").exists()
