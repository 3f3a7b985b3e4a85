"""The export folder: what comes into it, and what stays when something goes wrong."""

import os
import re
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial

import digits_classifier
import numpy as np
import pytest
from chaos import without_privileges
from chaos_workshop import together
from commands import run
from PIL import Image
from tiny_family import tiny

import export
from export import exporting, formats, page
from export.card import ModelCard
from export.findings import Exported, Findings, read_findings, write_findings
from export.formats import FORMATS
from export.parity import Parity, Tolerance, compare, complaints, farthest, latency
from resnet_keras import cli, files
from resnet_keras.architectures import NETWORKS
from resnet_keras.errors import ExportError, InputError
from resnet_keras.models import Features, build

PROGRAM = [sys.executable, "-c", "from resnet_keras.cli import main; main()"]
CLASS_NAMES = digits_classifier.CLASS_NAMES
SIDE = digits_classifier.SIDE


def export_digits(folder, *names, model=None):
    images, labels = digits_classifier.digits()
    held_out = slice(-digits_classifier.HELD_OUT, None)
    return export.export(
        model or digits_classifier.trained(),
        images[held_out],
        labels[held_out],
        images[:100],
        folder,
        class_names=CLASS_NAMES,
        description="digits of the tests",
        formats=names,
    )


def contents(folder):
    """Of the files that have their names."""
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.relative_to(folder).parts[0].startswith(files.PARTIAL)
    }


def half_written(folder):
    return list(folder.glob(f"{files.PARTIAL}*"))


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    """A model for the command line, of the digits that --data knows."""
    path = tmp_path_factory.mktemp("model") / "digits.keras"
    digits_classifier.trained().save(path)
    return path


def command(model_file, folder, *names):
    return [
        *(*PROGRAM, "export", model_file, "--data", "digits", "--output", folder),
        *("--images", "300", "--calibration-images", "100", "--formats", *names),
    ]


@pytest.fixture(scope="module")
def everything(model_file, tmp_path_factory):
    """An export of all formats by the command line. Who changes it works on a copy."""
    folder = tmp_path_factory.mktemp("everything")
    run(*command(model_file, folder, *FORMATS))
    return folder


@pytest.mark.slow
def test_every_file_is_there_and_answers_as_keras_does(everything):
    folder, findings = everything, read_findings(everything)
    assert [one.format for one in findings.files] == list(FORMATS)
    for exported in findings.files:
        assert (folder / exported.file).exists() and exported.megabytes > 0.001
        assert exported.memory < 9
        if exported.format == "core-ml" and sys.platform != "darwin":
            assert exported.parity is exported.latency is None
            continue
        assert exported.parity.images == 300
        assert exported.parity.keras_accuracy == findings.folded.keras_accuracy > 0.8
        assert not complaints(exported.parity, FORMATS[exported.format].tolerance)
        assert exported.latency > 0
    assert findings.folded.probability_difference < 1e-5
    assert (folder / "labels.txt").read_text().splitlines() == list("0123456789")
    assert not half_written(folder)


@pytest.mark.slow
def test_the_check_folder_has_what_keras_answered(everything):
    folder = everything
    images, labels, probabilities = (
        np.load(folder / "check" / f"{name}.npy") for name in ("images", "labels", "probabilities")
    )
    assert len(images) == len(labels) == len(probabilities) == exporting.CHECK_IMAGES
    answered = digits_classifier.trained().predict(images, verbose=0)
    np.testing.assert_allclose(probabilities, answered, atol=1e-5)


@pytest.mark.slow
def test_the_python_samples_of_the_page_run(everything, tmp_path):
    folder = everything
    text = (folder / "README.md").read_text()
    samples = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(samples) == 4
    image = digits_classifier.held_out_digits()[0]
    Image.fromarray(image).save(tmp_path / "photo.jpg", quality=95)
    for name in ("model_float32.tflite", "model.onnx", "labels.txt", "saved_model"):
        (tmp_path / name).symlink_to(folder / name)
    expected = str(digits_classifier.trained().predict(image[None], verbose=0).argmax())
    for sample in samples:
        answer = run(sys.executable, "-c", sample, cwd=tmp_path)
        assert answer.splitlines()[0].startswith(expected)


@pytest.mark.slow
def test_the_sample_for_litert_feeds_the_int8_file_its_integers(everything, tmp_path):
    findings = read_findings(everything)
    int8 = tuple(one for one in findings.files if one.format == "tflite-int8")
    page.write_page(tmp_path, replace(findings, files=int8))
    sample = re.search(r"```python\n(.*?)```", (tmp_path / page.README).read_text(), re.DOTALL)[1]
    image = digits_classifier.held_out_digits()[0]
    Image.fromarray(image).save(tmp_path / "photo.jpg", quality=95)
    for name in ("model_int8.tflite", "labels.txt"):
        (tmp_path / name).symlink_to(everything / name)
    expected = str(digits_classifier.trained().predict(image[None], verbose=0).argmax())
    assert run(sys.executable, "-c", sample, cwd=tmp_path).startswith(expected)


@pytest.mark.slow
def test_a_file_that_is_too_far_from_keras_takes_no_place(everything, tmp_path, monkeypatch):
    folder = shutil.copytree(everything, tmp_path / "export")
    before = contents(folder)
    (folder / FORMATS["tflite-dynamic-int8"].file).unlink()
    strict = replace(FORMATS["tflite-float16"], tolerance=Tolerance(probability=1e-9))
    monkeypatch.setitem(formats.FORMATS, "tflite-float16", strict)
    with pytest.raises(ExportError) as failure:
        export_digits(folder, "tflite-float16", "tflite-dynamic-int8")
    told = str(failure.value)
    assert "1 of 2 files are not exported" in told and "model_float16.tflite" in told
    assert re.search(r"largest difference of a probability 0\.\d+, allowed 1e-09", told)
    after = contents(folder)
    assert files.Path(FORMATS["tflite-dynamic-int8"].file) in after
    for name in ("model_float16.tflite", "model_float32.tflite"):
        assert after[files.Path(name)] == before[files.Path(name)]
    assert [one.format for one in read_findings(folder).files] == list(FORMATS)
    assert not half_written(folder)


@pytest.mark.slow
def test_a_folder_is_replaced_whole_and_an_earlier_models_file_is_told(everything, tmp_path):
    folder = shutil.copytree(everything, tmp_path / "export")
    (folder / "saved_model" / "stale.txt").write_text("of before")
    other = digits_classifier.trained()
    changed = type(other).from_config(other.get_config())
    changed.set_weights(other.get_weights())
    changed.layers[-1].bias.assign_add(0.01 * np.ones(10))
    findings = export_digits(folder, "saved-model", model=changed)
    assert not (folder / "saved_model" / "stale.txt").exists()
    saved_model, *others = findings.files
    assert saved_model.model == findings.model
    assert {other.model for other in others}.isdisjoint({findings.model})
    lines = (folder / "README.md").read_text().splitlines()
    (told,) = (line for line in lines if line.startswith("**Of an earlier model**"))
    assert told.endswith(f": {', '.join(other.file for other in others)}.")


@pytest.mark.slow
def test_a_killed_export_leaves_what_was_there(model_file, everything, tmp_path):
    whole = contents(everything)

    def kill(name):
        folder = tmp_path / name
        shutil.copytree(everything, folder)
        with subprocess.Popen(
            command(model_file, folder, name),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            while not list(folder.glob(f"{files.PARTIAL}*/made/*")):
                if process.poll() is not None:
                    return f"{name}: ended by itself"
                time.sleep(0.001)
            process.kill()
        if not half_written(folder):
            return f"{name}: nothing was half written"
        return "" if contents(folder) == whole else f"{name}: has changed what was there"

    each_converter = ("saved-model", "tflite-int8", "onnx-float32")
    assert not list(filter(None, together(kill, each_converter)))

    folder = tmp_path / "tflite-float32"
    printed = run(*command(model_file, folder, "tflite-float32"))
    assert "model_float32.tflite" in printed and "100.00%" in printed
    assert not half_written(folder)


@pytest.mark.slow
def test_a_conversion_ends_with_its_parent(model_file, tmp_path):
    process = subprocess.Popen(
        command(model_file, tmp_path, "tflite-float32"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not (found := workers_of(process.pid)):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 60
    while any(os.path.exists(f"/proc/{worker}") for worker in found):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def workers_of(parent):
    with open(f"/proc/{parent}/task/{parent}/children") as children:
        return children.read().split()


@pytest.mark.slow
def test_a_full_disk_costs_nothing(model_file, everything):
    before = contents(everything)
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))
    ended = subprocess.run(
        command(model_file, everything, "saved-model"),
        capture_output=True,
        text=True,
        preexec_fn=limit,
    )
    assert ended.returncode == 1
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("resnet-keras: ")]
    assert "File too large" in line
    assert contents(everything) == before and not half_written(everything)


@pytest.mark.slow
def test_a_folder_that_cannot_be_written(model_file, tmp_path):
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o555)
    ended = subprocess.run(
        command(model_file, folder, "tflite-float32"),
        capture_output=True,
        text=True,
        preexec_fn=without_privileges,
    )
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].startswith(
        "resnet-keras: error: the export folder cannot be written. Received: "
    )


def test_two_exports_to_one_folder(tmp_path):
    with (
        files.locked(tmp_path, "exporting to"),
        pytest.raises(InputError, match="another process is exporting to"),
    ):
        export_digits(tmp_path, "tflite-float32")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--formats", "tflite-flaot32"], "did you mean 'tflite-float32'?"),
        (["--formats", "tflite-int8", "."], "which is a path; a run or a model comes before"),
        (["missing"], "missing"),
        (["model.keras"], "without --data"),
        (["model.keras", "--data", "digits"], "no such model file. Received: model.keras"),
        (["--images", "0"], "--images must be at least 1. Received: 0"),
        ([], "there is no run yet. Received: nothing with a model in runs/"),
    ],
)
def test_what_cannot_be_exported(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        cli.main(["export", *arguments])
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert not list(tmp_path.iterdir())


def test_a_model_without_a_classifier_is_refused(tmp_path):
    model = build(tiny(NETWORKS["resnet20"]), (SIDE, SIDE, 3), Features("avg"))
    with pytest.raises(InputError, match="outputs are not the classes"):
        export_digits(tmp_path, model=model)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": np.zeros((0, SIDE, SIDE, 3), "uint8")}, "needs held-out images"),
        ({"images": np.zeros((2, 8, 8, 3), "uint8")}, r"Received: (8, 8, 3) uint8"),
        ({"calibration": np.zeros((2, SIDE, SIDE, 3))}, "the calibration images are not"),
        ({"calibration": np.zeros((0, SIDE, SIDE, 3), "uint8")}, "and training images"),
        ({"class_names": ["", *CLASS_NAMES[1:]]}, "Received: ''; accepted: names of one line"),
        ({"class_names": ["a\nb", *CLASS_NAMES[1:]]}, r"Received: 'a\nb'; accepted"),
        ({"labels": np.array([0, 10])}, "labels are indices into the class names"),
        ({"labels": np.array([0])}, "labels are indices into the class names"),
    ],
)
def test_arguments_that_do_not_fit(changes, words, tmp_path):
    images = np.zeros((2, SIDE, SIDE, 3), "uint8")
    arguments = {
        "images": images,
        "labels": np.array([0, 1]),
        "calibration": images,
        "class_names": CLASS_NAMES,
        **changes,
    }
    with pytest.raises(InputError) as refusal:
        export.export(digits_classifier.trained(), folder=tmp_path, **arguments)
    assert words in str(refusal.value)
    assert not list(tmp_path.iterdir())


# Parity


EXPECTED = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.7, 0.3]], "float32")
LABELS = np.array([0, 1, 1, 1])


def test_parity_counts():
    found = EXPECTED.copy()
    found[1] = 0.55, 0.45
    parity = compare(found, EXPECTED, LABELS)
    assert parity == Parity(4, pytest.approx(0.15, abs=1e-6), 0.75, 0.5, 0.75)
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


def test_latency_is_of_one_image():
    shapes = set()

    def slow(images):
        shapes.add(images.shape)
        time.sleep(0.003)
        return EXPECTED[:1]

    assert 3 <= latency(slow, np.zeros((2, 4, 4, 3), "uint8")) < 300
    assert shapes == {(1, 4, 4, 3)}


# Pages and files


def some_findings(**changes):
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
    return Findings(**{**values, **changes})


def test_the_page_tells_what_was_run(tmp_path):
    page.write_page(tmp_path, some_findings())
    text, html = ((tmp_path / name).read_text() for name in (page.README, page.PAGE))
    assert "| model_float32.tflite | LiteRT | 1.00 | 0.5 | 4 | 1.0e-03 | 100.00% | 75.00% |" in text
    assert "| model.mlpackage | Core ML (macOS) | 1.00 | not run here |" in text
    assert "**Of an earlier model**" in text and "model.mlpackage.\n" in text
    assert "32 rows of 48" in text and "(48, 32)" in text
    assert "<td>model_float32.tflite</td>" in html
    assert "&lt;b&gt;bold" in html and "<b>" not in html
    assert "{{" not in text + html


@pytest.mark.parametrize("there", [*([name] for name in FORMATS), [], list(FORMATS)])
def test_the_page_names_only_files_that_are_there(tmp_path, there):
    parity = some_findings().folded
    files = tuple(Exported(name, "abc", "0", 1.0, parity, 0.5, 3.0, 0.7) for name in there)
    page.write_page(tmp_path, some_findings(files=files))
    text = (tmp_path / page.README).read_text()
    samples = "".join(re.findall(r"```\w+\n.*?```", text, re.DOTALL))
    for name, kind in FORMATS.items():
        for mention in (f'"{kind.file}"', f"// {kind.file}", f"| `{kind.file}"):
            assert name in there or mention not in samples + text, mention
        assert name not in there or kind.file in text
    assert not re.search(r"^## [^\n]*\n+(## |\Z)", text, re.MULTILINE), "a heading of nothing"


def test_an_export_with_other_class_names_is_of_another_model():
    model, card = digits_classifier.trained(), ModelCard("tiny", "", tuple("0123456789"))
    same = exporting.fingerprint(model, card)
    assert same == exporting.fingerprint(model, replace(card))
    assert same != exporting.fingerprint(model, replace(card, class_names=tuple("abcdefghij")))


def test_findings_are_read_as_they_were_written(tmp_path):
    assert read_findings(tmp_path) is None
    write_findings(tmp_path, some_findings())
    assert read_findings(tmp_path) == some_findings()


@pytest.mark.parametrize("damage", ["{", "[]", '{"format_version": 9}', '{"format_version": 1}'])
def test_damaged_findings(tmp_path, damage):
    (tmp_path / "parity.json").write_text(damage)
    with pytest.raises(InputError, match="parity.json cannot be read"):
        read_findings(tmp_path)


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
