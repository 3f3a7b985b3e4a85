"""Two hosts that train together, one of which is lost: an experiment of `make chaos`."""

import re
import signal
import time

from chaos_workshop import Training, difference, ending, newest_step, outcome, train

from resnet_keras.training import launch

TRAIN = (
    *("train", "tiny", "--image-size", "8", "--batch-size", "64", "--epochs", "3"),
    *("--precision", "float32", "--checkpoint-steps", "5"),
)
LAUNCH = ("launch", "-n", "2", *TRAIN)
ON_JAX = {"KERAS_BACKEND": "jax"}
LOST = "another process of this training was lost, and training needs all processes. Run the same"
SECONDS_TO_STOP = 60


def two_hosts(workshop):
    """One of two hosts is killed, or both are asked to stop; the same commands go on.

    In a workshop of one lane the first alone is killed.
    """
    together = workshop.folder / "hosts-undisturbed"
    ended = train(together, command=LAUNCH)
    assert ended.status == 0, ended.err
    whole = ending(together)
    complaints = {}
    if len(workshop.lanes) > 1:
        asked = workshop.folder / "hosts-asked"
        complaints[asked] = asked_to_stop(asked)
    for victim in range(len(workshop.lanes)):
        run = workshop.folder / f"host-{victim}-lost"
        complaints[run] = lost_host(run, victim)
    return outcome(
        "two hosts",
        [said or difference(run, whole) for run, said in complaints.items()],
        f"JAX; a host lost: the other stops within {SECONDS_TO_STOP} s",
    )


def hosts(run):
    """Two processes as two hosts would start them."""
    address = launch.free_address()
    return [
        Training(
            *(run, "--hosts", address, "--process", str(process), "--processes", "2"),
            command=TRAIN,
            environment=ON_JAX,
        )
        for process in range(2)
    ]


def lost_host(run, victim):
    both = hosts(run)
    both[0].until(lambda: newest_step(run) > 0)
    both[victim].send(signal.SIGKILL)
    killed = time.monotonic()
    survivor = both[1 - victim].wait()
    seconds = time.monotonic() - killed
    both[victim].wait()
    if survivor.status != 1 or LOST not in survivor.err:
        return f"{run.name}: status {survivor.status} and not 1: {survivor.err[-300:]}"
    if seconds > SECONDS_TO_STOP:
        return f"{run.name}: stopped after {seconds:.0f} s"
    first, other = (host.wait() for host in hosts(run))
    if (first.status, other.status) != (0, 0):
        return f"{run.name}: did not go on: {(first.err + other.err)[-300:]}"
    return "" if "resuming " in first.out else f"{run.name}: began again"


def asked_to_stop(run):
    training = Training(run, command=LAUNCH)
    training.until(lambda: newest_step(run) > 0)
    training.send(signal.SIGTERM)
    stopped = training.wait()
    told = re.findall(
        r"^resnet-keras: stopped after step \d+.*the same command to resume$",
        stopped.err,
        re.MULTILINE,
    )
    if stopped.status != 128 + signal.SIGTERM or len(told) != 1:
        return f"{run.name}: status {stopped.status}: {stopped.err[-300:]}"
    resumed = train(run, command=LAUNCH)
    if resumed.status != 0 or resumed.out.count("resuming ") != 1:
        return f"{run.name}: status {resumed.status}: {(resumed.out + resumed.err)[-300:]}"
    return ""
