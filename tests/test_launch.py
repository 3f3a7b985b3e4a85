"""Processes that train together; chaos_hosts.py loses some of them."""

import os
import signal
import subprocess
import sys
import time

import pytest
from kit import PROGRAM, command_refusal, refusal

from resnet_keras import cli
from resnet_keras.cli.train import HostOptions, train
from resnet_keras.training import launch


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


EXECUTE = "import sys; exec(sys.argv[2])"  # a program whose commands are pieces of Python


def supervised(*scripts):
    """The status of processes that run these pieces of Python."""
    return launch.supervise([[script] for script in scripts], program=EXECUTE)


SLEEP = "import time; time.sleep(60)"


def test_all_well_is_status_0():
    assert supervised("pass", "print('unheard')") == 0


def test_the_others_of_a_killed_process_are_stopped(capfd):
    kill = "import os; os.kill(os.getpid(), 9)"
    assert supervised(SLEEP, kill) == 1
    (line,) = ours(capfd.readouterr().err)
    assert "process 1 of 2" in line and "SIGKILL" in line


def test_a_process_that_fails_tells_why(monkeypatch, capfd):
    monkeypatch.setattr(launch, "GRACE_SECONDS", 0.5)
    fail = "import sys; print('no such data', file=sys.stderr); sys.exit(2)"
    assert supervised(SLEEP, fail) == 2
    assert capfd.readouterr().err == "[1] no such data\n"


@pytest.mark.parametrize("end", ["os.abort()", "os._exit(75)"])
def test_a_process_that_lost_another_one(capfd, end):
    assert supervised(f"import os; {end}") == 1
    (line,) = ours(capfd.readouterr().err)
    assert "lost" in line and "SIG" not in line


def test_a_signal_before_training_ends_them_all(tmp_path):
    told = tmp_path / "child"
    child = f"import pathlib, time; pathlib.Path({str(told)!r}).touch(); time.sleep(60)"
    script = f"""
from resnet_keras.training import launch
raise SystemExit(launch.supervise([[{child!r}], [{child!r}]], program={EXECUTE!r}))
"""
    command = [sys.executable, "-c", script]
    parent = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not told.exists():
        assert parent.poll() is None
        time.sleep(0.05)
    parent.terminate()
    _, errors = parent.communicate(timeout=30)
    assert len(ours(errors)) == len(errors.splitlines()) == 1
    assert parent.returncode == 128 + signal.SIGTERM


def test_children_end_with_a_parent_that_was_killed(tmp_path):
    told = tmp_path / "child"
    child = f"""
import os, pathlib, time
from resnet_keras.training import launch
launch.follow_parent()
pathlib.Path({str(told)!r}).write_text(str(os.getpid()))
time.sleep(60)
"""
    script = f"""
from resnet_keras.training import launch
launch.supervise([[{child!r}]], program={EXECUTE!r})
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
        with open(f"/proc/{process}/stat", encoding="utf-8") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("arguments", "received"),
    [
        (["launch", "-n", "0", "train", "resnet20"], "0"),
        (["launch", "-n", "2", "list"], "list"),
        (["launch", "-n", "2"], "nothing"),
        (["launch", "-n", "2", "--", "list", "--help"], "list --help"),
    ],
)
def test_what_cannot_be_launched(arguments, received):
    assert f"Received: {received};" in command_refusal(*arguments)


@pytest.mark.parametrize(
    ("options", "received"),
    [
        ({"hosts": "node1"}, "'node1'"),
        ({"hosts": "node1:9000"}, "--process None --processes None"),
        ({"hosts": "node1:9000", "process": 2, "processes": 2}, "--process 2 --processes 2"),
        ({"hosts": "auto", "process": 0}, "--hosts auto"),
    ],
)
def test_hosts_that_make_no_sense(options, received):
    assert refusal(train, "resnet20", hosts=HostOptions(**options)).received == received


def test_bad_input_of_a_training_process_is_passed_on(capfd):
    with pytest.raises(SystemExit) as end:
        cli.main(["train", "resnet20", "--hosts", "node1"])
    assert end.value.code == 2
    (line,) = ours(capfd.readouterr().err)
    assert "'node1'" in line


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
    assert "interrupted" in ours(errors)[-1]


@pytest.mark.slow
def test_hosts_without_a_cluster(tmp_path):
    options = ("--hosts", "auto", "--run", tmp_path / "run")
    process = start("train", "resnet20", *options, KERAS_BACKEND="jax")
    _, errors = process.communicate()
    assert process.returncode == 2
    (line,) = ours(errors)
    assert "coordinator_address should be defined" in line
    assert not (tmp_path / "run").exists()
