"""What the experiments of `make chaos` share: real trainings, and how they should end."""

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import h5py

REPOSITORY = Path(__file__).parents[1]
TESTS = REPOSITORY / "tests"
PYTHONPATH = (TESTS / "tiny_everywhere", TESTS, REPOSITORY)
PROGRAM = (sys.executable, Path(__file__).with_name("tiny_training.py"))
EVERYTHING = ("train", "tiny", "--recipe", "everything", "--checkpoint-steps", "2")
SECONDS = 300  # that no process may take, on a busy machine either


@dataclass(frozen=True)
class Outcome:
    """What came of an experiment: how many things were tried, and how many went as they should."""

    experiment: str
    tried: int
    survived: int
    remark: str

    @property
    def lost(self):
        return self.tried - self.survived


def outcome(experiment, complaints, remark=""):
    """Of one complaint a try, which is empty where all went well."""
    lost = [complaint for complaint in complaints if complaint]
    remarks = [*lost, *filter(None, [remark])]
    return Outcome(experiment, len(complaints), len(complaints) - len(lost), "; ".join(remarks))


@dataclass(frozen=True)
class Ended:
    """A process that has ended, or was killed."""

    status: int
    out: str
    err: str

    def complaint(self, status, *words, lines=1):
        """What is wrong with its end: another status, no single line on stderr, other words."""
        told = self.err.splitlines()
        if self.status != status:
            return f"status {self.status} and not {status}: {self.err[-300:]}"
        if len(told) != lines:
            return f"{len(told)} lines on stderr and not {lines}: {self.err[-300:]}"
        missing = [word for word in words if not re.search(word, self.err + self.out)]
        return f"{missing} not in: {self.err}" if missing else ""


class Training:
    """A process of the command line, which writes to files beside the run folder."""

    def __init__(self, run, *options, command=EVERYTHING, **settings):
        self.run = run
        self._out, self._err = (
            tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115, wait() closes them
            for _ in range(2)
        )
        environment = {
            **{name: os.environ[name] for name in os.environ if name != "TF_CPP_MIN_LOG_LEVEL"},
            "PYTHONPATH": os.pathsep.join(map(str, PYTHONPATH)),
            "XDG_CACHE_HOME": str(run.parent / "cache"),
            **settings.pop("environment", {}),
        }
        self._process = subprocess.Popen(
            [*PROGRAM, *command, "--run", run, *options],
            stdout=self._out,
            stderr=self._err,
            env=environment,
            **settings,
        )

    @property
    def is_running(self):
        return self._process.poll() is None

    def send(self, number):
        self._process.send_signal(number)

    def wait(self):
        try:
            status = self._process.wait(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
        return Ended(status, *map(_content, (self._out, self._err)))

    def until(self, condition):
        """Waits for something to be true of the run folder; False if the process ended before."""
        while self.is_running:
            if condition():
                return True
            time.sleep(0.001)
        return False


def _content(file):
    with file:
        file.seek(0)
        return file.read()


def train(run, *options, **settings):
    return Training(run, *options, **settings).wait()


class Workshop:
    """A folder for experiments, with the runs that they start from and compare with.

    Attributes:
        folder: the folder.
        lanes: numbers of the series of kills, which go on side by side; for each a host is lost,
            and a disk of another size is full.
        kills: how many there are in each.
        whole: what a run comes to that nobody disturbs.
    """

    def __init__(self, folder, lanes=(1, 2), kills=10):
        self.folder = folder
        self.lanes = lanes
        self.kills = kills
        self.whole, self._interrupted = together(
            lambda make: make(folder), (undisturbed, stopped_in_the_second_epoch)
        )

    def interrupted(self, name, place=None):
        """A copy of a run that was stopped in its second epoch."""
        run = (place or self.folder) / name
        shutil.copytree(self._interrupted, run)
        return run

    def complaint(self, run, *words, **settings):
        """What is wrong when the same command is given again, and should bring the run to its end.

        Args:
            run: its folder.
            words: patterns to be found in what the process prints.
        """
        ended = train(run, **settings)
        if said := ended.complaint(0, *words, lines=0):
            return f"{run.name}: {said}"
        return self.difference(run)

    def difference(self, run):
        return difference(run, self.whole)


def together(function, cases):
    """Two at a time, as starting Python takes one core some seconds."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(function, cases))


def ending(run):
    """What has to come out alike, to the last bit: every array of both models, and the history."""
    found = {"history.csv": (run / "history.csv").read_bytes()}

    def keep(model, name, item):
        if isinstance(item, h5py.Dataset):
            found[f"{model}/{name}"] = item[()].tobytes()

    for model in ("last.keras", "best.keras"):
        with zipfile.ZipFile(run / model) as archive:
            weights = io.BytesIO(archive.read("model.weights.h5"))
        with h5py.File(weights) as file:
            file.visititems(partial(keep, model))
    return found


def difference(run, whole):
    """How the end of a run differs from the one that is expected, or what it has left behind."""
    found = ending(run)
    differing = [name for name in whole.keys() | found if whole.get(name) != found.get(name)]
    if differing:
        return f"{run.name} ended otherwise: {len(differing)} differ, such as {differing[0]}"
    left = [str(path) for path in run.rglob(".partial-*")] + list(run.glob("checkpoints"))
    return f"{run.name} has left {left}" if left else ""


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def newest_step(run):
    steps = [int(path.stem.split("-")[1]) for path in (run / "checkpoints").glob("step-*.npz")]
    return max(steps, default=0)


def undisturbed(folder):
    ended = train(folder / "whole")
    assert ended.status == 0, ended.err
    return ending(folder / "whole")


def stopped_in_the_second_epoch(folder):
    run = folder / "interrupted"
    training = Training(run)
    training.until(lambda: newest_step(run) > 20)
    training.send(signal.SIGTERM)
    ended = training.wait()
    assert ended.status == 128 + signal.SIGTERM, ended.err
    return run
