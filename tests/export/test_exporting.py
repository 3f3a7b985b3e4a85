"""The export folder: what comes into it, and what stays when something goes wrong."""

import os
import re
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import keras
import kit
import numpy as np
import pytest
from exports import (
    expected,
    export_digits,
    installed_formats,
    steps_in_this_process,
    whole_export,
)
from PIL import Image

from resnet_keras import cli, export
from resnet_keras.architectures import RESNET20
from resnet_keras.errors import ExportError
from resnet_keras.export import exporting, formats, page
from resnet_keras.export.calibration import of_full_range
from resnet_keras.export.card import ModelCard
from resnet_keras.export.formats import FORMATS
from resnet_keras.export.manifest import Exported, Manifest, read_manifest, write_manifest
from resnet_keras.export.parity import (
    WARM_UP_CALLS,
    Parity,
    Tolerance,
    compare,
    complaints,
    farthest,
    latency,
)
from resnet_keras.files import atomic as files
from resnet_keras.networks.models import build

CLASS_NAMES = kit.DIGIT_NAMES
SIDE = kit.DIGITS_SIDE
SMALL = build(kit.tiny(RESNET20, (1,), (4,), classes=10, input_size=SIDE))


@pytest.fixture
def few_processes():
    with steps_in_this_process():
        yield


def contents(folder):
    """The bytes of the files that have their names, by their paths."""
    return {
        path: content
        for path, content in kit.contents(folder).items()
        if not path.parts[0].startswith(files.PARTIAL)
    }


def half_written(folder):
    return list(folder.glob(f"{files.PARTIAL}*"))


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    """A model for the command line, of the digits that --data knows."""
    path = tmp_path_factory.mktemp("model") / "digits.keras"
    kit.digits_classifier().save(path)
    return path


def arguments(model_file, folder, *names):
    return [
        *("export", str(model_file), "--data", "digits", "--output", str(folder)),
        *("--images", "300", "--calibration-images", "100", "--formats", *names),
    ]


@pytest.fixture
def exported(tmp_path):
    """A copy of an export of all formats, for tests that change it."""
    return shutil.copytree(whole_export(), tmp_path / "export")


# --- A whole export ---


@pytest.mark.slow
def test_every_file_is_there_and_answers_as_keras_does():
    folder = whole_export()
    manifest = read_manifest(folder)
    assert [one.format for one in manifest.files] == installed_formats()
    for exported in manifest.files:
        assert (folder / exported.file).exists() and exported.megabytes > 0.001
        if exported.format == "core-ml" and sys.platform != "darwin":
            assert exported.parity is exported.latency is None
            continue
        assert exported.parity.images == kit.HELD_OUT_DIGITS
        assert exported.parity.keras_accuracy == manifest.folded.keras_accuracy > 0.8
        assert not complaints(kit.known(exported.parity), FORMATS[exported.format].tolerance)
        assert exported.latency > 0
    assert manifest.folded.probability_difference < 1e-5
    assert tuple((folder / "labels.txt").read_text("utf-8").splitlines()) == CLASS_NAMES
    assert not half_written(folder)


@pytest.mark.slow
def test_the_check_folder_has_what_keras_answered():
    images, labels, probabilities = (
        np.load(whole_export() / "check" / f"{name}.npy")
        for name in ("images", "labels", "probabilities")
    )
    assert len(images) == len(labels) == len(probabilities) == exporting.CHECK_IMAGES
    answered = kit.answers(kit.digits_classifier(), images)
    np.testing.assert_allclose(probabilities, answered, atol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # files left open
def test_the_python_samples_of_the_page_run(tmp_path, monkeypatch, capsys):
    whole, of_int8 = tmp_path / "whole", tmp_path / "int8"
    shutil.copytree(whole_export(), whole)
    of_int8.mkdir()
    manifest = read_manifest(whole)
    int8 = tuple(one for one in manifest.files if one.format == "tflite-int8")
    page.write_page(of_int8, replace(kit.known(manifest), files=int8))
    for name in ("model_int8.tflite", "labels.txt"):
        shutil.copy(whole / name, of_int8)
    # LiteRT, MediaPipe Tasks, ONNX Runtime and TensorFlow; the int8 file takes integers.
    for folder, count in ((whole, 4), (of_int8, 2)):
        text = (folder / page.README).read_text("utf-8")
        samples = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
        assert len(samples) == count
        monkeypatch.chdir(folder)
        Image.fromarray(kit.held_out_digits()[0]).save("photo.jpg", quality=95)
        for sample in samples:
            capsys.readouterr()
            exec(compile(sample, "sample", "exec"), {})
            answer = capsys.readouterr().out
            assert answer.startswith(CLASS_NAMES[expected()[0].argmax()]), sample


@pytest.mark.slow
@pytest.mark.usefixtures("few_processes")
def test_a_file_that_is_too_far_from_keras_takes_no_place(exported, monkeypatch):
    before = contents(exported)
    (exported / FORMATS["tflite-dynamic-int8"].file).unlink()
    strict = replace(FORMATS["tflite-float16"], tolerance=Tolerance(probability=1e-9))
    monkeypatch.setitem(formats.FORMATS, "tflite-float16", strict)
    with pytest.raises(ExportError) as failure:
        export_digits(exported, "tflite-float16", "tflite-dynamic-int8")
    assert "model_float16.tflite" in str(failure.value) and "1e-09" in str(failure.value)
    after = contents(exported)
    assert Path(FORMATS["tflite-dynamic-int8"].file) in after
    for name in ("model_float16.tflite", "model_float32.tflite"):
        assert after[Path(name)] == before[Path(name)]
    assert [one.format for one in read_manifest(exported).files] == installed_formats()
    assert not half_written(exported)


@pytest.mark.slow
@pytest.mark.usefixtures("few_processes")
def test_a_folder_is_replaced_whole_and_an_earlier_models_file_is_told(exported):
    (exported / "saved_model" / "stale.txt").write_text("of before")
    other = kit.digits_classifier()
    changed = type(other).from_config(other.get_config())
    changed.set_weights(other.get_weights())
    changed.layers[-1].bias.assign_add(0.01 * np.ones(10))
    manifest = export_digits(exported, "saved-model", model=changed)
    assert not (exported / "saved_model" / "stale.txt").exists()
    saved_model, *others = manifest.files
    assert saved_model.model == manifest.model
    assert {other.model for other in others}.isdisjoint({manifest.model})
    lines = (exported / page.README).read_text("utf-8").splitlines()
    (told,) = (line for line in lines if line.startswith("**Of an earlier model**"))
    assert told.endswith(f": {', '.join(other.file for other in others)}.")


# --- What goes wrong ---


def children_of(process):
    with open(f"/proc/{process}/task/{process}/children", encoding="utf-8") as children:
        return children.read().split()


@pytest.mark.slow
def test_a_killed_export_leaves_what_was_there_and_no_process(model_file, exported, capsys):
    before = contents(exported)
    process = subprocess.Popen(
        [*kit.PROGRAM, *arguments(model_file, exported, "saved-model", "onnx-float32")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    # One file is made, and another is being written or compared.
    while not list(exported.glob(f"{files.PARTIAL}*/made/model.onnx")):
        assert process.poll() is None
        time.sleep(0.001)
    (conversion,) = children_of(process.pid)
    process.kill()
    process.wait()
    assert half_written(exported)
    assert contents(exported) == before
    deadline = time.monotonic() + 60
    while os.path.exists(f"/proc/{conversion}"):
        assert time.monotonic() < deadline
        time.sleep(0.05)

    cli.main(arguments(model_file, exported, "tflite-float32"))
    printed = capsys.readouterr().out
    assert "model_float32.tflite" in printed and "100.00%" in printed
    (anew,) = (one for one in read_manifest(exported).files if one.format == "tflite-float32")
    assert 0.1 < anew.memory < 9 and anew.seconds > 0
    assert (exported / "labels.txt").read_text().splitlines() == list("0123456789")
    assert not half_written(exported)


@pytest.mark.slow
def test_a_full_disk_costs_nothing(model_file, exported, capsys):
    before = contents(exported)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, limits[1]))
    try:
        with pytest.raises(SystemExit) as end:
            cli.main(arguments(model_file, exported, "saved-model"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert end.value.code == 1
    lines = capsys.readouterr().err.splitlines()
    (line,) = [line for line in lines if line.startswith("resnet-keras: ")]
    assert "File too large" in line
    assert contents(exported) == before and not half_written(exported)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "export"
    error = kit.refusal(export_small, folder)
    assert str(folder) in error.received and "Not a directory" in error.received


def test_two_exports_to_one_folder(tmp_path):
    with files.locked(tmp_path, "exporting to"):
        error = kit.refusal(export_small, tmp_path)
    assert str(tmp_path) in str(error)


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        (["--formats", "tflite-flaot32"], "'tflite-float32'?"),
        (["--formats", "tflite-int8", "."], "'.', which is a path"),
        (["missing"], "missing"),
        (["model.keras", "--data", "digits"], "Received: model.keras"),
        (["model.keras"], "--data"),
        (["--images", "0"], "images is out of range. Received: 0"),
        ([], "runs/"),
    ],
)
def test_what_cannot_be_exported(arguments, value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert value in kit.command_refusal("export", *arguments)
    assert not list(tmp_path.iterdir())


def export_small(folder, **changes):
    """Asks for an export that is refused before anything is converted."""
    images = np.zeros((2, SIDE, SIDE, 3), "uint8")
    values = {
        "model": SMALL,
        "images": images,
        "labels": np.array([0, 1]),
        "calibration": images,
        "class_names": CLASS_NAMES,
        **changes,
    }
    return export.export(folder=folder, **values)


@pytest.mark.parametrize(
    ("changes", "value"),
    [
        ({"images": np.zeros((0, SIDE, SIDE, 3), "uint8")}, "0 held-out images"),
        ({"images": np.zeros((2, 8, 8, 3), "uint8")}, "(8, 8, 3) uint8"),
        ({"calibration": np.zeros((2, SIDE, SIDE, 3))}, "(16, 16, 3) float64"),
        ({"calibration": np.zeros((0, SIDE, SIDE, 3), "uint8")}, "0 training images"),
        ({"class_names": ["", *CLASS_NAMES[1:]]}, "''"),
        ({"class_names": ["a\nb", *CLASS_NAMES[1:]]}, r"'a\nb'"),
        ({"class_names": CLASS_NAMES[1:]}, "9 class names, output (None, 10)"),
        ({"labels": np.array([0, 10])}, "10 classes"),
        ({"labels": np.array([0])}, "labels of shape (1,), 2 images"),
    ],
)
def test_arguments_that_do_not_fit(changes, value, tmp_path):
    assert value in kit.refusal(export_small, tmp_path, **changes).received
    assert not list(tmp_path.iterdir())


def test_a_model_without_a_classifier_is_refused(tmp_path):
    features = keras.Model(SMALL.input, SMALL.get_layer("avg_pool").output)
    error = kit.refusal(export_small, tmp_path, model=features)
    assert "(None, 4)" in error.received


# --- Parity ---


EXPECTED = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.7, 0.3]], "float32")
LABELS = np.array([0, 1, 1, 1])


def test_parity_counts():
    found = EXPECTED.copy()
    found[1] = 0.55, 0.45
    parity = compare(found, EXPECTED, LABELS)
    assert parity.probability_difference == pytest.approx(0.15, abs=1e-6)
    assert parity == Parity(4, parity.probability_difference, 0.75, 0.5, 0.75)
    assert complaints(parity, Tolerance(0.2, 0.25, 0.25)) == []
    assert complaints(parity, Tolerance(0.1, 0.2, 0.25)) == [
        "largest difference of a probability 0.15, allowed 0.1",
        "other answers than Keras 25.00%, allowed 20.00%",
    ]
    assert complaints(parity, Tolerance(1, 1, 0.1)) == ["accuracy lost 25.00%, allowed 10.00%"]


def test_nan_is_far_away():
    found = np.full_like(EXPECTED, np.nan)
    assert complaints(compare(found, EXPECTED, LABELS), Tolerance(1, 1, 1))


def test_the_worst_batch_size_counts():
    def wrong_in_batches(images):
        found = EXPECTED[images[:, 0, 0, 0]]
        return found if len(images) == 1 else found + 0.01

    images = np.arange(4, dtype="uint8").reshape(4, 1, 1, 1)
    alone = farthest(wrong_in_batches, images, EXPECTED, LABELS, (1,))
    assert alone.probability_difference == 0
    both = farthest(wrong_in_batches, images, EXPECTED, LABELS, (1, 3))
    assert both.probability_difference == pytest.approx(0.01, abs=1e-6)


def test_latency_is_the_median_of_single_images_and_is_measured_for_some_seconds(monkeypatch):
    now, shapes, took = 0.0, [], [1.0, 4.0, 2.0]  # seconds

    def predict(images):
        nonlocal now
        shapes.append(images.shape)
        if len(shapes) > WARM_UP_CALLS:
            now += took.pop(0)
        return np.zeros((1, 2), "float32")

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    assert latency(predict, np.zeros((2, 4, 4, 3), "uint8")) == 2500
    assert shapes == [(1, 4, 4, 3)] * (WARM_UP_CALLS + 2)


def test_calibration_gets_black_and_white_in_a_copy():
    images = np.full((2, 4, 4, 3), 7, "uint8")
    found = of_full_range(images)
    assert (found[0].min(), found[0].max()) == (0, 255)
    np.testing.assert_array_equal(found[1], images[1])
    assert (images == 7).all()


# --- Pages and files ---


def some_manifest(**changes):
    parity = Parity(4, 0.001, 1.0, 0.75, 0.75)
    values = {
        "name": "tiny",
        "description": "a <b>bold</b> network",
        "model": "abc",
        "policy": "float32",
        "image_size": (32, 48),
        "folded": parity,
        "keras_latency": 2.0,
        "files": (
            Exported("tflite-float32", "abc", "0", 1.0, parity, 0.5, 3.0, 0.7),
            Exported("core-ml", "def", "0", 1.0, None, None, 3.0, 0.7),
        ),
        "machine": "x86_64, 2 CPU cores",
        "versions": {"keras": "3"},
    }
    return Manifest(**{**values, **changes})


def test_the_page_tells_what_was_run(tmp_path):
    page.write_page(tmp_path, some_manifest())
    text, html = ((tmp_path / name).read_text() for name in (page.README, page.PAGE))
    # 1e-3 from Keras is beyond the limit of a float32 file, 1e-4.
    assert "| model_float32.tflite | ✗ no | 1.0e-03 | 1e-04 | 100.00% | 99.0% | 75.00% |" in text
    assert "| model.mlpackage | not run |" in text
    assert "0 of 1 compared files" in text
    assert "**Of an earlier model**" in text and "model.mlpackage.\n" in text
    assert "32 rows of 48" in text and "(48, 32)" in text
    assert '<a href="model_float32.tflite">' in html
    assert "&lt;b&gt;bold" in html and "<b>" not in html
    assert "{{" not in text + html
    # Without JavaScript every platform is a section that the contents link to.
    platforms = re.findall(r'data-tab="(\w+)', html)
    assert platforms == ["Python", "Android", "iOS", "Browser", "C"]
    assert set(re.findall(r'href="#([^"]+)"', html)) == set(
        re.findall(r'section id="([^"]+)"', html)
    )
    assert "http" not in html.split("<script>")[1] and "<link" not in html


@pytest.mark.parametrize("there", [*([name] for name in FORMATS), [], list(FORMATS)])
def test_the_page_names_only_files_that_are_there(tmp_path, there):
    parity = some_manifest().folded
    files = tuple(Exported(name, "abc", "0", 1.0, parity, 0.5, 3.0, 0.7) for name in there)
    page.write_page(tmp_path, some_manifest(files=files))
    text = (tmp_path / page.README).read_text()
    samples = "".join(re.findall(r"```\w+\n.*?```", text, re.DOTALL))
    for name, kind in FORMATS.items():
        for mention in (f'"{kind.file}"', f"// {kind.file}", f"| `{kind.file}"):
            assert name in there or mention not in samples + text, mention
        assert name not in there or kind.file in text
    assert not re.search(r"^## [^\n]*\n+(## |\Z)", text, re.MULTILINE), "a heading of nothing"


def test_an_export_with_other_class_names_is_of_another_model():
    card = ModelCard("tiny", "", tuple("0123456789"))
    same = exporting.fingerprint(SMALL, card)
    assert same == exporting.fingerprint(SMALL, replace(card))
    assert same != exporting.fingerprint(SMALL, replace(card, class_names=tuple("abcdefghij")))


def test_a_manifest_is_read_as_it_was_written(tmp_path):
    assert read_manifest(tmp_path) is None
    write_manifest(tmp_path, some_manifest())
    assert read_manifest(tmp_path) == some_manifest()


@pytest.mark.parametrize("damage", ["{", "[]", '{"format_version": 9}', '{"format_version": 1}'])
def test_a_damaged_manifest(tmp_path, damage):
    (tmp_path / "parity.json").write_text(damage)
    assert str(tmp_path / "parity.json") in kit.refusal(read_manifest, tmp_path).received


@pytest.mark.parametrize("exchanges", [True, False])
def test_folders_are_replaced(tmp_path, monkeypatch, exchanges):
    if not exchanges:
        monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    for text in ("first", "second"):
        new = tmp_path / "new"
        new.mkdir()
        (new / text).write_text(text)
        files.replace_folder(new, tmp_path / "place")
        assert [path.name for path in (tmp_path / "place").iterdir()] == [text]
    assert [path.name for path in tmp_path.iterdir()] == ["place"]
