"""Trainings that are killed, starved and fed badly, as real processes: `make chaos`.

Every experiment is a function of EXPERIMENTS that takes a `Workshop` and returns an `Outcome`.
"""

import contextlib
import csv
import ctypes
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path

from chaos_hosts import two_hosts
from chaos_workshop import (
    REPOSITORY,
    Training,
    Workshop,
    contents,
    newest_step,
    outcome,
    together,
    train,
)
from PIL import Image
from rich.console import Console
from rich.table import Table
from sample_images import BAD, PLAIN, folder_with, saved
from tensorboard_server import ask, serving

QUICK = ("train", "tiny", "--recipe", "quick", "--image-size", "8", "--precision", "float32")
EPOCHS = 5  # of the recipe
SEED = 20151210
HALF = "half a checkpoint was left"


# SIGKILL


def checkpoints_more(run, number, delay):
    """True some time after a process has written so many checkpoints."""
    seen = {newest_step(run)}

    def condition():
        seen.add(newest_step(run))
        if len(seen) <= number:
            return False
        time.sleep(delay)
        return True

    return condition


def half_written(run, name, number):
    """True when such a file is being written for the so-manieth time."""
    times, there = 0, False

    def condition():
        nonlocal times, there
        was, there = there, any(run.glob(name))
        times += there and not was
        return times >= number

    return condition


def written_anew(run, name):
    def date():
        path = run / name
        return path.stat().st_mtime_ns if path.exists() else None

    before = date()
    return lambda: date() != before


def finished(run):
    return lambda: (
        (run / "run.json").exists() and json.loads((run / "run.json").read_text())["finished"]
    )


def moments_of(chance, kills):
    """When to kill, as functions of the run folder: at random, but the end comes last."""
    moments = [
        *(at_random(chance) for _ in range(3)),
        ("while starting", partial(after, seconds=chance.uniform(0, 6))),
        *(
            ("at a checkpoint", partial(half_written, name="checkpoints/.partial-*", number=number))
            for number in (chance.randint(1, 9), chance.randint(1, 9))
        ),
        ("at best.keras", partial(half_written, name=".partial-best.keras", number=1)),
        ("after history.csv", partial(written_anew, name="history.csv")),
    ]
    the_end = chance.sample(THE_END, 2)
    return [*chance.sample(moments, kills - len(the_end)), *the_end]


def at_random(chance):
    number, delay = chance.randint(1, 8), chance.uniform(0, 0.1)
    return "at any time", partial(checkpoints_more, number=number, delay=delay)


def after(run, seconds):
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end


THE_END = [
    ("at last.keras", partial(half_written, name=".partial-last.keras", number=1)),
    ("before run.json is finished", partial(written_anew, name="last.keras")),
    ("after run.json is finished", finished),
    ("before the report", partial(written_anew, name="evaluation.json")),
]


def kill(run, moment):
    """Starts a training and kills it at a moment; False if it comes to its end before."""
    condition = moment(run)
    training = Training(run)
    if training.until(condition):
        training.send(signal.SIGKILL)
    return training.wait().status == -signal.SIGKILL


def kills(workshop):
    """SIGKILL at random points, the same command given again until it ends."""

    def lane(number):
        chance = random.Random(f"{SEED} {number}")
        moments, counts, runs, complaints = moments_of(chance, workshop.kills), Counter(), [], []
        while moments:
            run = workshop.folder / f"killed-{number}-{len(complaints)}"
            runs.append(run)
            times = 0
            while moments and kill(run, moments[0][1]):
                kind, _ = moments.pop(0)
                times += 1
                counts[kind] += 1
                counts[HALF] += any(run.glob("checkpoints/.partial-*"))
                print(f"  killed {kind}: {run.name}, step {newest_step(run)}", flush=True)
            if moments:  # the run has ended, of which some moments are
                moments[0] = at_random(chance)
            complaints += [""] * (times - 1) + [workshop.complaint(run) or report_of(run)]
        return counts, runs, complaints

    lanes = together(lane, workshop.lanes)
    counts = sum((counts for counts, _, _ in lanes), Counter())
    complaints = [complaint for _, _, complaints in lanes for complaint in complaints]
    curves = one_curve(workshop.folder, [run.name for _, runs, _ in lanes for run in runs])
    half = counts.pop(HALF, 0)
    assert counts.total() == workshop.kills * len(lanes)
    points = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
    return outcome(
        f"SIGKILL, {counts.total()} times",
        [*complaints, *curves],
        f"seed {SEED}; {points}; {half} left half a checkpoint; "
        f"TensorBoard asked about {len(curves)} runs",
    )


def report_of(run):
    lacking = [name for name in ("evaluation.json", "report.html") if not (run / name).exists()]
    return f"{run.name} lacks {lacking}" if lacking else ""


def one_curve(logs, runs):
    """What TensorBoard shows wrongly: each epoch is to be there once, images and graph as well."""
    with serving(logs) as server:
        return [tensorboard_complaint(server, f"{run}/tensorboard") for run in runs]


def tensorboard_complaint(server, run):
    for part in ("training", "validation"):
        rows = json.loads(ask(server, f"scalars/scalars?run={run}/{part}&tag=loss"))
        epochs = [row[1] for row in rows]
        if epochs != list(range(1, EPOCHS + 1)):
            return f"TensorBoard shows the epochs {epochs} of {run}/{part}"
    for part, tag in (("training", "augmented_inputs"), ("validation", "confusion_matrix")):
        images = json.loads(ask(server, f"images/images?run={run}/{part}&tag={tag}&sample=0"))
        if len(images) != 1:
            return f"TensorBoard shows {len(images)} images {tag} of {run}"
    graph = ask(server, f"graphs/graph?run={run}/training&conceptual=false")
    return "" if b"stage2/2a/res2a_branch2a" in graph else f"TensorBoard has no graph of {run}"


# Signals that ask


def signals(workshop):
    """SIGINT and SIGTERM: the step is finished, one line says how to go on."""

    def case(number):
        run = workshop.folder / f"asked-{number}"
        training = Training(run)
        training.until(lambda: newest_step(run) > 25)
        training.send(number)
        kept = r"stopped after step (\d+), last checkpoint: step \1, .*the same command to resume"
        said = training.wait().complaint(128 + number, kept)
        return said or workshop.complaint(run, "resuming ")

    return outcome("SIGINT, SIGTERM", together(case, (signal.SIGINT, signal.SIGTERM)))


# Full disks


def limit_file_size(kilobytes):
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024 * kilobytes, resource.RLIM_INFINITY))


def full_disk(workshop):
    """Files that grow too large, and disks of which some room is left."""
    lanes = len(workshop.lanes)
    complaints = together(partial(size_limit, workshop), (20, 700)[:lanes])
    try:
        complaints += together(partial(small_disk, workshop), (0, 300)[:lanes])
    except subprocess.CalledProcessError as error:
        return outcome("full disk", complaints, f"RLIMIT_FSIZE; {error.stderr.strip()}")
    return outcome("full disk", complaints, "RLIMIT_FSIZE, and a tmpfs of 12 MB")


def size_limit(workshop, kilobytes):
    run = workshop.interrupted(f"files-of-{kilobytes}-kB")
    before = contents(run / "checkpoints")
    ended = train(run, preexec_fn=partial(limit_file_size, kilobytes))
    return stopped_by_disk(workshop, run, ended, before)


def small_disk(workshop, room):
    with mounted(workshop.folder / f"disk-{room}") as disk:
        run = workshop.interrupted(f"room-for-{room}-kB", disk)
        before = contents(run / "checkpoints")
        state = os.statvfs(disk)
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(state.f_bavail * state.f_frsize - 1024 * room))
        cache = {"XDG_CACHE_HOME": str(workshop.folder / "cache")}
        ended = train(run, environment=cache)
        ballast.unlink()
        return stopped_by_disk(workshop, run, ended, before)


@contextlib.contextmanager
def mounted(disk):
    """A disk of 12 MB, where this user may mount one."""
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(disk)]
    subprocess.run(command, capture_output=True, text=True, check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def stopped_by_disk(workshop, run, ended, before):
    """What is wrong with a run that could not write, and with the same command afterwards."""
    reason = r"(File too large|No space left on device)"
    words = rf"training stopped: .*{reason}.*the same command to resume"
    if said := ended.complaint(1, words):
        return f"{run.name}: {said}"
    if newest_step(run) < max(int(path.stem.split("-")[1]) for path in before):
        return f"{run.name}: checkpoints are lost"
    return workshop.complaint(run, "resuming ")


# Damage


def damaged(workshop):
    """Checkpoints cut short, emptied, overwritten; foreign things beside them."""

    def case(damage):
        run = workshop.interrupted(damage.__name__)
        words = damage(run / "checkpoints")
        return workshop.complaint(run, *words)

    return outcome("damaged checkpoints", together(case, (newest_cut, garbage, all_cut)))


def newest_cut(folder):
    newest = max(folder.iterdir())
    newest.write_bytes(newest.read_bytes()[:5000])
    return f"{newest.name} is damaged", "resuming "


def garbage(folder):
    (folder / "step-000000500.npz").mkdir()
    (folder / "step-000000501.npz").write_bytes(b"garbage")
    (folder / "step-000000502.npz").write_bytes(b"")
    (folder / "step-000000001.npz").write_bytes(b"PK\3\4")
    (folder / ".partial-step-000000030.npz").write_bytes(b"PK")
    (folder / "notes.txt").write_text("keep out")
    return *(f"step-00000050{number}.npz is damaged" for number in range(3)), "resuming "


def all_cut(folder):
    checkpoints = list(folder.iterdir())
    for path in checkpoints:
        path.write_bytes(path.read_bytes()[:-1])
    return tuple(f"{path.name} is damaged" for path in checkpoints)


# Refusals


def without_privileges():
    """Takes from root what lets it write and read whatever the rights are."""
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


def refused(workshop):
    """Commands that cannot be meant leave a run as it is, and say why in a line."""
    photos = folder_with(workshop.folder / "photos", {})
    cases = [
        (("--learning-rate", "0.02"), "learning_rate is 0.01 there and 0.02 here"),
        (("--seed", "1", "--l2", "0"), "l2 is 0.0001 there and 0.0 here, seed is 0 there and 1 "),
        (("--data", str(photos)), f"data is 'digits' there and '{photos}' here"),
    ]

    def case(options_and_words):
        options, words = options_and_words
        run = workshop.interrupted(f"refused{options[0]}")
        before = contents(run)
        said = train(run, *options).complaint(2, re.escape(words))
        return said or ("" if contents(run) == before else f"{run} has changed")

    return outcome("another recipe or data", together(case, cases))


def read_only(workshop):
    """A run folder that cannot be written, and one in which no run folder can be made."""

    def case(run):
        folders = [run.parent if run.parent != workshop.folder else run, *run.rglob("*")]
        before = contents(run)
        for path in folders:
            path.chmod(0o555 if path.is_dir() else 0o444)
        ended = train(
            run,
            preexec_fn=without_privileges,
            environment={"XDG_CACHE_HOME": str(workshop.folder / "cache")},
        )
        for path in folders:
            path.chmod(0o755)
        said = ended.complaint(2, "the run folder cannot be written.*Permission denied")
        return said or ("" if contents(run) == before else f"{run} has changed")

    closed = workshop.folder / "closed"
    closed.mkdir()
    return outcome(
        "read-only folder", together(case, (workshop.interrupted("read-only"), closed / "run"))
    )


def two_at_once(workshop):
    """A second process on the same run folder gives way to the first."""
    run = workshop.interrupted("shared")
    first, before = Training(run), newest_step(run)
    first.until(lambda: newest_step(run) > before)
    first.send(signal.SIGSTOP)  # it would have ended before the second one has started
    said = train(run).complaint(2, "another process is training into")
    first.send(signal.SIGCONT)
    ended = first.wait()
    return outcome(
        "two processes, one folder", [said, ended.complaint(0, lines=0) or workshop.difference(run)]
    )


def not_finite(workshop):
    """A learning rate that no network survives."""
    run = workshop.folder / "not-finite"
    options = ("--learning-rate", "1e30", "--checkpoint-steps", "1")
    ended = train(run, *options, command=QUICK)
    words = (
        r"the loss is (nan|inf) at step \d+ \(epoch 1\), the learning rate .+; last good "
        rf"checkpoint: step {newest_step(run)}, in "
    )
    return outcome("NaN loss", [ended.complaint(1, words)])


# Bad data


def bad_data(workshop):
    """Every kind of bad data in one folder of images, and labels that are none of the classes."""
    listed = together(lambda check: check(workshop), (bad_images, bad_labels))
    return outcome("bad data", [complaint for each in listed for complaint in each])


def bad_images(workshop):
    data = workshop.folder / "bad"
    files = {name: content for name, (content, _) in BAD.items()}
    bomb = saved(Image.new("1", (14_000, 14_000)), "PNG")
    folder_with(data / "train", {**files, "bomb.png": bomb, "secret.png": PLAIN["grey.png"]}, 9)
    (data / "train" / "a" / "dangling.png").symlink_to(data / "nowhere.png")
    (data / "train" / "a" / "secret.png").chmod(0)
    (data / "train" / "empty").mkdir()
    folder_with(data / "test", {})
    (data / "test" / "stranger").mkdir()
    (data / "test" / "stranger" / "photo.png").write_bytes(PLAIN["colour.png"])
    places = [*files, "bomb.png", "secret.png", "dangling.png", "empty", "stranger"]
    return refused_and_skipped(
        workshop.folder / "bad-images", str(data), places, {}, without_privileges
    )


def bad_labels(workshop):
    folder = workshop.folder / "tfds"
    prepare = "import mislabelled, sys; mislabelled.prepare(sys.argv[1])"
    command = [sys.executable, "-c", prepare, folder]
    subprocess.run(command, cwd=REPOSITORY / "tests", capture_output=True, check=True)
    return refused_and_skipped(
        workshop.folder / "bad-labels",
        "tfds:mislabelled",
        ["test image 7", "label -1, of 2 classes"],
        {"TFDS_DATA_DIR": str(folder)},
        None,
    )


def refused_and_skipped(run, data, places, environment, before_start):
    """A complaint for every bad thing that is not listed or not skipped, and one for each run."""
    options = ("--data", data, "--epochs", "1", "--batch-size", "4")
    settings = {"command": QUICK, "environment": environment, "preexec_fn": before_start}
    ended = train(run, *options, **settings)
    lines = len(ended.err.splitlines())
    said = ended.complaint(2, "data that cannot be used", lines=lines)
    complaints = [said or (f"{run} was made" if run.exists() else "")]
    skipping = train(run, *options, "--skip-bad-images", **settings)
    complaints.append(skipping.complaint(0, "left out as bad", lines=0) or report_of(run))
    with contextlib.suppress(FileNotFoundError), (run / "skipped.csv").open(newline="") as file:
        skipped = "\n".join(" ".join(row) for row in csv.reader(file))
        for place in places:
            missed = [
                name
                for name, text in (("listed", ended.err), ("skipped", skipped))
                if place not in text
            ]
            complaints.append(f"{place} is not {' and not '.join(missed)}" if missed else "")
    return complaints


IN_CI = (kills, signals, full_disk, two_hosts)
"""Experiments that tests run too, see test_chaos.py."""

EXPERIMENTS = (*IN_CI, damaged, refused, read_only, two_at_once, not_finite, bad_data)


def main():
    console = Console(width=None if sys.stdout.isatty() else 120)
    table = Table(title="resnet-keras under attack")
    for heading in ("experiment", "tried", "survived", "lost", "remark"):
        counts = heading in ("tried", "survived", "lost")
        table.add_column(heading, justify="right" if counts else "left", no_wrap=counts)
    lost = 0
    with tempfile.TemporaryDirectory() as folder:
        workshop = Workshop(Path(folder))
        for experiment in EXPERIMENTS:
            started = time.monotonic()
            print(f"{experiment.__name__}: {experiment.__doc__}", flush=True)
            found = experiment(workshop)
            print(f"  {time.monotonic() - started:.0f} s", flush=True)
            lost += found.lost
            numbers = (str(number) for number in (found.tried, found.survived, found.lost))
            table.add_row(found.experiment, *numbers, found.remark)
    console.print(table)
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
