"""The run folder: written whole, read back, and damage told in one line."""

import dataclasses
import json
import os
import platform
import subprocess
import sys

import keras
import pytest
from kit import refusal

import resnet_keras
from resnet_keras import recipes
from resnet_keras.files.atomic import file_name, write_file, write_text
from resnet_keras.recipes import QUICK
from resnet_keras.runs.run import HISTORY_COLUMNS, Run, RunDetails
from resnet_keras.version import versions

DETAILS = RunDetails(
    network="resnet20",
    shortcut=None,
    data="digits",
    class_names=("zero", "one"),
    image_size=32,
    recipe=QUICK,
    precision="precision: float32",
    versions={"python": "3.11"},
    started="2026-01-01T00:00:00+00:00",
    fingerprint="0123456789abcdef",
)
ROWS = [dict.fromkeys(HISTORY_COLUMNS, 0.5) | {"epoch": epoch, "best": 1} for epoch in (1, 2)]
HEADER = ",".join(HISTORY_COLUMNS)


@pytest.fixture
def run(tmp_path):
    run = Run(tmp_path / "runs" / "one")
    run.create(DETAILS)
    return run


def test_details_and_history_are_read_as_they_were_written(run):
    assert run.read_details() == DETAILS
    assert run.read_history() == []
    run.write_history(ROWS)
    assert run.read_history() == ROWS
    finished = dataclasses.replace(DETAILS, finished=True)
    run.write_details(finished)
    assert run.read_details() == finished
    assert sorted(path.name for path in run.folder.iterdir()) == [
        "history.csv",
        "recipe.toml",
        "run.json",
    ]


def test_versions_name_what_is_installed():
    found = versions("keras", "no-such-package")
    assert found == {
        "python": platform.python_version(),
        "resnet-keras": resnet_keras.__version__,
        "keras": keras.__version__,
    }


def test_missing_folder_and_folder_without_a_run(tmp_path):
    assert refusal(Run(tmp_path / "nowhere").read_details).received == str(tmp_path / "nowhere")
    error = refusal(Run(tmp_path).read_details)
    assert f"{tmp_path} (run.json " in error.received


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 2}', '{"format": 2, "recipe": 3}'])
def test_damaged_details(run, content):
    (run.folder / "run.json").write_text(content)
    assert str(run.folder / "run.json") in refusal(run.read_details).received


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("recipe", "abc"),
        ("recipe.epochs", -1),
        ("recipe.epochs", "24"),
        ("recipe.epochs", True),
        ("recipe.decay", "never"),
        ("recipe.decay_at", [2.0]),
        ("recipe.warmth", 1),
        ("recipe.augmentation.crop", {"pad": 4}),
        ("network", 5),
        ("class_names", "zero"),
        ("class_names.1", None),
        ("image_size", 0),
        ("preprocessing", {"mean": [0, 0, 0], "std": [1, 1]}),
        ("a\nb", 1),
    ],
)
def test_damage_is_told_by_file_and_field(run, field, value):
    path = run.folder / "run.json"
    content = place = json.loads(path.read_text())
    *above, name = [int(part) if part.isdigit() else part for part in field.split(".")]
    for part in above:
        place = place[part]
    place[name] = value
    path.write_text(json.dumps(content))
    before = path.read_bytes()
    received = refusal(run.read_details).received
    assert str(path) in received and " ".join(str(name).split()) in received
    assert path.read_bytes() == before


def test_nested_damage_and_names_that_are_no_unicode(run):
    path = run.folder / "run.json"
    whole = path.read_text()
    path.write_text(whole.replace('"digits"', "[" * 100_000))
    assert str(path) in refusal(run.read_details).received
    named = dataclasses.replace(DETAILS, data="caf\udce9", weights="\udcff.keras")
    run.write_details(named)  # paths in Latin-1
    assert run.read_details() == named


@pytest.mark.parametrize("number", [1, 3])
def test_another_format_is_refused(run, number):
    content = json.loads((run.folder / "run.json").read_text())
    (run.folder / "run.json").write_text(json.dumps({**content, "format": number}))
    error = refusal(run.read_details)
    assert f"format: {number}" in error.received and "2" in error.accepted


@pytest.mark.parametrize("content", ["epoch,loss\n1,2\n", f"{HEADER}\n1,2\n", f"{HEADER}\n1,x\n"])
def test_damaged_history(run, content):
    (run.folder / "history.csv").write_text(content)
    assert str(run.folder / "history.csv") in refusal(run.read_history).received


def test_a_folder_of_other_files_is_not_taken(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    assert refusal(Run(tmp_path).create, DETAILS).received == str(tmp_path)
    assert os.listdir(tmp_path) == ["thesis.txt"]


def test_a_process_killed_at_the_very_start_is_no_obstacle(tmp_path):
    (tmp_path / ".partial-run.json").write_text('{"form')
    Run(tmp_path).create(DETAILS)
    assert Run(tmp_path).read_details() == DETAILS


def test_a_file_is_not_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        assert str(folder) in refusal(Run(folder).create, DETAILS).received


def test_an_unwritable_folder():
    # /proc takes no folders from anybody, root included.
    assert "/proc/run" in refusal(Run("/proc/run").create, DETAILS).received


def test_one_process_at_a_time_trains_into_a_folder(run):
    def train(folder):
        with Run(folder).locked():
            pass

    with run.locked():
        before = sorted(run.folder.iterdir())
        assert str(run.folder) in str(refusal(train, run.folder))
        assert sorted(run.folder.iterdir()) == before
        aside = run.set_aside()
        refusal(train, aside)
    train(aside)


def test_a_recipe_that_the_user_edits_stays(run):
    assert recipes.find(run.recipe) == DETAILS.recipe
    run.recipe.write_text("epochs = 3")
    run.write_details(DETAILS)
    assert run.recipe.read_text() == "epochs = 3"


def test_half_written_files_go_and_whole_ones_stay(run):
    (run.folder / "examples").mkdir()
    for name in (".partial-best.keras", "examples/.partial-0.png", "examples/0.png"):
        (run.folder / name).write_bytes(b"")
    run.remove_partial()
    left = {path.relative_to(run.folder).as_posix() for path in run.folder.rglob("*")}
    assert left == {"run.json", "recipe.toml", "examples", "examples/0.png"}


def test_starting_over_keeps_what_was_there(run):
    assert run.set_aside().name == "one.old-1"
    run.create(DETAILS)
    assert run.set_aside().name == "one.old-2"
    assert Run(run.folder.with_name("one.old-1")).read_details() == DETAILS


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "old")

    def write_half(partial):
        partial.write_text("ne")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_file(path, write_half)
    assert os.listdir(tmp_path) == ["file.txt"]
    assert path.read_text() == "old"


def test_a_full_disk_leaves_the_old_file(tmp_path):
    """RLIMIT_FSIZE stands for the full disk: a write beyond it fails as one there does."""
    script = """
import resource, signal, sys
from pathlib import Path
from resnet_keras.files.atomic import write_text
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
write_text(Path(sys.argv[1]), "x" * 5000)
"""
    path = tmp_path / "file.txt"
    path.write_text("old")
    finished = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True)
    assert "File too large" in finished.stderr
    assert os.listdir(tmp_path) == ["file.txt"]
    assert path.read_text() == "old"


@pytest.mark.parametrize("name", ["7", "Maltese_dog", "n02085936-Maltese"])
def test_a_plain_class_name_is_a_files_name(name):
    assert file_name(name) == name


def test_other_class_names_have_files_of_their_own():
    names = ["a b", "a_b", "a/b", "x" * 255, "x" * 254, "日本" * 40, ".", "..", ""]
    found = [file_name(name) for name in names]
    assert len(set(found)) == len(names)
    for name in found:
        assert len(f".partial-{name}.png".encode()) < 255 and "/" not in name and name[0] != "."


def test_what_a_killed_export_leaves_is_removed(run):
    partial = run.folder / "export" / ".partial-abc"
    partial.mkdir(parents=True)
    (partial / "model.keras").write_bytes(b"")
    run.remove_partial()
    assert not partial.exists() and partial.parent.exists()
