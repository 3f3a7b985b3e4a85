"""Damaged files of a run, an export and the caches are refused in one line, or made again."""

import json
import shutil
from dataclasses import asdict

import kit
import numpy as np
import pytest
from damage import CASES, survive
from PIL import Image

from resnet_keras import Run, load_model, recipes
from resnet_keras.data import cache, checks
from resnet_keras.data.folder import Folder
from resnet_keras.evaluation import ensembles, evaluate, report
from resnet_keras.export import manifest, serving
from resnet_keras.export.parity import Parity
from resnet_keras.files.atomic import read_arrays
from resnet_keras.runs.checkpoints import Checkpoint, Checkpoints
from resnet_keras.weights import metadata

pytestmark = pytest.mark.usefixtures("tiny_network")


@pytest.fixture
def run(tmp_path):
    """A finished run, with a checkpoint as of one that is not."""
    folder = tmp_path / "run"
    shutil.copytree(kit.finished_run().folder, folder)
    return Run(folder)


def survives(path, use, seed=0, cases=CASES):
    """Damages a file and uses it; what is refused, and what is read, stays as it is."""
    whole = path.read_bytes()

    def damaged(content):
        path.write_bytes(content)
        try:
            use()
        finally:
            assert path.read_bytes() == content, "the file was overwritten"

    try:
        survive(whole, damaged, seed, cases)
    finally:
        path.write_bytes(whole)
    use()


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("run.json", Run.read_details),
        ("recipe.toml", lambda run: recipes.find(run.recipe)),
        ("history.csv", Run.read_history),
        ("speed.csv", Run.read_speeds),
        ("evaluation.json", evaluate.read_evaluations),
    ],
)
def test_files_of_a_run(run, name, read):
    survives(run.folder / name, lambda: read(run), cases=10 * CASES)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["run.json", "history.csv", "speed.csv", "evaluation.json"])
def test_a_damaged_run_has_a_report_or_is_refused(run, name):
    survives(run.folder / name, lambda: report.write_report(run), cases=max(1, CASES // 12))


def test_the_details_of_a_run_that_is_measured(run):
    def measure():
        evaluate.load_run_model(run)
        evaluate.data_of(run)

    survives(run.folder / "run.json", measure, cases=max(1, CASES // 2))


def test_the_model_of_a_run(run):
    survives(run.best_model, lambda: load_model(run.best_model), cases=max(1, CASES // 2))


def test_an_ensemble(tmp_path, run):
    measured = kit.known(evaluate.read_evaluation(run))
    rates = evaluate.ErrorRates(measured.images, measured.top1_error, measured.top5_error)
    one_view = evaluate.ONE_VIEW
    members = (ensembles.Member(str(run), "tiny", one_view, rates),) * 2
    names = run.read_details().class_names
    found = ensembles.Ensemble(members, one_view, "digits", "0", names, measured)
    ensembles._write(tmp_path, found, "key")
    path = tmp_path / ensembles.RESULT
    survives(path, lambda: ensembles.read_ensemble(tmp_path), cases=10 * CASES)


def test_an_export(tmp_path):
    parity = Parity(4, 0.001, 1.0, 0.75, 0.75)
    files = tuple(
        manifest.Exported(name, "a", "0", 1.0, measured, 0.5, 3.0, 0.7)
        for name, measured in (("tflite-float32", parity), ("core-ml", None))
    )
    values = ("tiny", "", "a", "float32", (32, 48), parity, 2.0, files, "x86_64", {"keras": "3"})
    manifest.write_manifest(tmp_path, manifest.Manifest(*values))
    (tmp_path / "labels.txt").write_text("zero\nneuf à ½\n")
    for name in ("parity.json", "labels.txt"):

        def read():
            serving.describe(tmp_path)
            manifest.read_manifest(tmp_path)

        survives(tmp_path / name, read, cases=5 * CASES)


@pytest.mark.parametrize("kind", ["resnet", "timm"])
def test_descriptions_beside_weights(tmp_path, kind):
    triples = {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]}
    config = {"architecture": "resnet50", "label_names": ["a", "b"], "pretrained_cfg": triples}
    if kind == "resnet":
        config = {"model_type": "resnet", "id2label": {"0": "a", "1": "b"}}
    for name, content in (
        ("config.json", config),
        ("preprocessor_config.json", {f"image_{key}": value for key, value in triples.items()}),
    ):
        (tmp_path / name).write_text(json.dumps(content))
        path = tmp_path / "model.safetensors"
        survives(tmp_path / name, lambda: metadata.beside(path), cases=5 * CASES)  # noqa: B023


def test_a_damaged_cache_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for label in "ab":
        for split, count in (("train", 3), ("test", 1)):
            folder = tmp_path / "photos" / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                image = kit.draw_images(1, 8, seed=number)[0]
                Image.fromarray(image).save(folder / f"{number}.png")
    source = Folder(tmp_path / "photos")
    expected = kit.known(kit.of_files(checks.check(source).splits["train"]).plain)
    path = next(
        file
        for file in cache.folder().iterdir()
        if len(read_arrays(file)["plain"]) == len(expected)  # and not the test images'
    )

    def check_again(content):
        path.write_bytes(content)
        np.testing.assert_array_equal(
            kit.of_files(checks.check(source).splits["train"]).plain, expected
        )
        assert "plain" in read_arrays(path)

    survive(path.read_bytes(), check_again, cases=5 * CASES)


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, capsys):
    kept = Checkpoints(tmp_path)
    for step in (1, 2):
        arrays = {name: np.full((3, 4), step, "float32") for name in ("model/0", "optimizer/0")}
        kept.write(Checkpoint(step, arrays, {"history": [{"epoch": 1.0}]}))
    path = tmp_path / "step-000000002.npz"

    def read(content):
        path.write_bytes(content)
        found = Checkpoints(tmp_path).read_latest()
        assert found is not None and found.notes == {"history": [{"epoch": 1.0}]}
        for array in found.arrays.values():
            np.testing.assert_array_equal(array, np.full((3, 4), found.step, "float32"))

    survive(path.read_bytes(), read, cases=10 * CASES)


def test_details_are_read_as_they_stand_in_a_damaged_file(run):
    """A value that was turned into another type would show (24 is not "24"), and a lost field."""
    path = run.folder / "run.json"

    def is_part(told, found):
        if isinstance(told, dict) and isinstance(found, dict):
            return told.keys() <= found.keys() and all(is_part(told[k], found[k]) for k in told)
        if isinstance(told, list) and isinstance(found, list):
            return len(told) == len(found) and all(map(is_part, told, found))
        # A whole number may become a float, and NaN is not equal to itself.
        return json.dumps(told) == json.dumps(found) or (
            type(told) is int and type(found) is float and float(told) == found
        )

    def read():
        found = json.loads(json.dumps(asdict(run.read_details())))
        told = json.loads(path.read_text())
        del told["format"]
        assert is_part(told, found)

    survives(path, read, seed=1, cases=10 * CASES)
