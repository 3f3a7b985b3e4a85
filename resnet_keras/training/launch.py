"""Processes that train together, watched by one that computes nothing.

JAX ends a process that has lost another one by abort, which no exception handler sees. So what the
user starts is a parent: it passes signals on, tells in one line what became of its children, and
takes them along when it goes.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Annotated

from resnet_keras.errors import InputError, check_arguments, whole
from resnet_keras.processes import end_with_parent

LOST = 75  # a child's exit status: another process of the training is gone
LIFELINE = "RESNET_KERAS_LIFELINE"  # variable with the number of a pipe, see `end_with_parent`
GRACE_SECONDS = 15.0  # for the other children, after one has ended with an error
POLL_SECONDS = 0.1
PROCESSES = whole(1, 256)  # of one machine

PROGRAM = """
import sys
from resnet_keras.cli import main
sys.argv = sys.argv[1:]
main()
"""
"""The Python program of every process: resnet-keras. Its first argument is the program's name."""


def free_address() -> str:
    """An address of this machine, 127.0.0.1:port, that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


@check_arguments
def launch(processes: Annotated[int, PROCESSES], command: Sequence[str]) -> int:
    """Trains with several processes of this machine, until all have ended.

    Each has a GPU of its own, where there are any, unless JAX_LOCAL_DEVICE_IDS is set.

    Args:
        processes: how many.
        command: of resnet-keras, beginning with "train".

    Returns:
        The exit status.

    Raises:
        InputError: it is another command, or the number of processes is out of range.
    """
    if list(command[:1]) != ["train"]:
        received = " ".join(command) or "nothing"
        raise InputError("launch starts training only", received=received, accepted="train …")
    address = free_address()
    places = [
        ("--hosts", address, "--process", str(process), "--processes", str(processes))
        for process in range(processes)
    ]
    return supervise(
        [[*command, *place] for place in places],
        [
            {"JAX_LOCAL_DEVICE_IDS": str(process), **os.environ, "KERAS_BACKEND": "jax"}
            for process in range(processes)
        ],
    )


def supervise(
    commands: Sequence[Sequence[str]],
    environments: Sequence[Mapping[str, str]] | None = None,
    program: str = PROGRAM,
) -> int:
    """Runs commands of resnet-keras in processes of their own, until all have ended.

    What the first one prints is passed on as it is; of the others, errors alone, after the
    command's number. When one ends with an error the others are stopped.

    Args:
        commands: arguments of resnet-keras.
        environments: of each; None for this process's.
        program: Python source that takes the commands; resnet-keras by default.

    Returns:
        The exit status: 0, or that of the child that failed, or 1 if one was killed or lost others.
    """
    ours, theirs = os.pipe()
    with _closing(theirs):
        children = [
            _start([program, sys.argv[0], *command], environment, ours, is_first=number == 0)
            for number, (command, environment) in enumerate(
                zip(commands, environments or [os.environ] * len(commands), strict=True)
            )
        ]
        os.close(ours)
        pumps = [_prefix(child, number) for number, child in enumerate(children) if child.stderr]
        with _forwarding(children) as forwarded:
            failed = _await_failure(children)
            if failed is not None:
                _stop(children, GRACE_SECONDS if children[failed].returncode > 0 else 0.0)
        for pump in pumps:
            pump.join()
    return _tell(failed, children, forwarded)


def is_supervised() -> bool:
    """Whether this process was started by `supervise`."""
    return LIFELINE in os.environ


def follow_parent() -> None:
    """Ends this process as soon as the one that supervises it is gone, even if it was killed."""
    end_with_parent(int(os.environ[LIFELINE]), 128 + signal.SIGKILL)


@contextmanager
def _closing(descriptor: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.close(descriptor)


def _start(
    command: Sequence[str], environment: Mapping[str, str], lifeline: int, is_first: bool
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        # As its console script would be: without the working directory on the path.
        [sys.executable, "-P", "-c", *command],
        env={**environment, LIFELINE: str(lifeline)},
        pass_fds=(lifeline,),
        stdout=None if is_first else subprocess.DEVNULL,
        stderr=None if is_first else subprocess.PIPE,
        text=True,
        errors="replace",
        # Ctrl-C reaches the parent alone, which passes it on once.
        process_group=0,
    )


def _prefix(child: subprocess.Popen[str], number: int) -> threading.Thread:
    def pump() -> None:
        assert child.stderr is not None
        with child.stderr:
            for line in child.stderr:
                print(f"[{number}] {line}", end="", file=sys.stderr, flush=True)

    thread = threading.Thread(target=pump, daemon=True)
    thread.start()
    return thread


@contextmanager
def _forwarding(children: Sequence[subprocess.Popen[str]]) -> Iterator[list[int]]:
    """Passes signals on to the children, and collects them."""
    forwarded: list[int] = []

    def forward(number: int, _: object) -> None:
        forwarded.append(number)
        for child in children:
            with suppress(ProcessLookupError):
                child.send_signal(number)

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, forward) for number in numbers]
    try:
        yield forwarded
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _await_failure(children: Sequence[subprocess.Popen[str]]) -> int | None:
    """Waits until all children have ended well, or one has not; tells which."""
    while True:
        statuses = [child.poll() for child in children]
        failed = [number for number, status in enumerate(statuses) if status]
        if failed:
            # One that was killed is the reason why others failed, not the other way round.
            return min(failed, key=lambda number: _blame(statuses[number]))
        if None not in statuses:
            return None
        time.sleep(POLL_SECONDS)


def _blame(status: int | None) -> int:
    return {LOST: 2, -signal.SIGABRT: 1}.get(status or 0, 0)


def _stop(children: Sequence[subprocess.Popen[str]], grace: float) -> None:
    deadline = time.monotonic() + grace
    while time.monotonic() < deadline and any(child.poll() is None for child in children):
        time.sleep(POLL_SECONDS)
    for child in children:
        child.kill()
        child.wait()


def _tell(
    failed: int | None, children: Sequence[subprocess.Popen[str]], forwarded: Sequence[int]
) -> int:
    if failed is None:
        return 0
    status = children[failed].returncode
    if -status in forwarded:  # before training had begun, or after its end
        print(
            "resnet-keras: interrupted. Run the same command to resume", file=sys.stderr, flush=True
        )
        return 128 - status
    if status in (LOST, -signal.SIGABRT):
        reason = "another process of this training was lost, and training needs all processes"
    elif status < 0:
        name = signal.Signals(-status).name
        reason = f"process {failed} of {len(children)} was killed ({name}); the others are stopped"
        if len(children) == 1:
            reason = f"the training process was killed ({name})"
    else:
        return status
    print(
        f"resnet-keras: error: {reason}. Run the same command to resume from the last checkpoint",
        file=sys.stderr,
        flush=True,
    )
    return 1
