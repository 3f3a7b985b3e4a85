"""Runs that answer together: averaged by hand, and refused where they do not belong together."""

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest

from resnet_keras import ensembles, evaluation, report, training
from resnet_keras.data import sources
from resnet_keras.data.arrays import Arrays
from resnet_keras.data.checks import check
from resnet_keras.ensembles import default_folder, evaluate_ensemble, read_ensemble
from resnet_keras.errors import InputError
from resnet_keras.evaluation import evaluate_run, load_run_model, score
from resnet_keras.protocols import Protocol
from resnet_keras.recipes import Recipe
from resnet_keras.runs import Run

pytestmark = pytest.mark.usefixtures("tiny_network")

RECIPE = Recipe(epochs=1, batch_size=64, learning_rate=0.1, image_size=8, precision="float32")


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_network):
    """Three runs of one network, not to be changed; the third sees larger images."""
    folder = tmp_path_factory.mktemp("runs")
    made = []
    for seed, size in ((0, 8), (1, 8), (2, 12)):
        run = Run(folder / f"seed{seed}")
        recipe = dataclasses.replace(RECIPE, seed=seed, image_size=size)
        training.train("tiny", "digits", recipe, run, verbose=0)
        made.append(run)
    return made


@pytest.fixture(scope="module")
def test_images():
    return sources.find("digits").load("test")


@pytest.fixture(scope="module")
def result(runs, tmp_path_factory):
    """The folder of the first two runs' ensemble, not to be changed."""
    folder = tmp_path_factory.mktemp("ensembles") / "both"
    evaluate_ensemble(runs[:2], folder, verbose=0)
    return folder


@pytest.fixture
def both(result, tmp_path):
    """A copy of it."""
    shutil.copytree(result, tmp_path / "both")
    return tmp_path / "both"


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_ensemble_averages_probabilities(runs, test_images, tmp_path):
    before = [contents(run.folder) for run in runs]
    found = evaluate_ensemble(runs[:2], tmp_path / "both", verbose=0)
    total = np.zeros((360, 10))
    for run in runs[:2]:
        total += load_run_model(run).predict(test_images.images, verbose=0)
    expected = score(total / 2, test_images.labels)
    assert found.evaluation.confusion_matrix == expected.confusion_matrix
    assert found.evaluation.loss == pytest.approx(expected.loss, abs=1e-6)
    assert [member.run for member in found.members] == [str(run) for run in runs[:2]]
    assert found.class_names == tuple("0123456789")
    assert read_ensemble(tmp_path / "both") == found
    assert [contents(run.folder) for run in runs] == before
    for member, run in zip(found.members, runs, strict=False):
        answers = load_run_model(run).predict(test_images.images, verbose=0)
        assert member.alone.top1_error == score(answers, test_images.labels).top1_error


def test_networks_of_several_sizes_have_scales_of_their_own(runs, tmp_path):
    protocol = Protocol("multi-scale")
    found = evaluate_ensemble(runs[1:], tmp_path / "both", protocol, verbose=0)
    scales = [member.protocol.scales for member in found.members]
    assert scales == [(8, 9, 14, 17, 23), (12, 14, 21, 26, 34)]
    assert read_ensemble(tmp_path / "both") == found
    page = report.write_ensemble_report(tmp_path / "both").read_text()
    assert "multi-scale 12 14 21 26 34" in page


def test_the_page_of_an_ensemble(runs, both):
    found = read_ensemble(both)
    page = report.write_ensemble_report(both).read_text()
    assert page.count('src="data:image/png;base64,') == 3  # classes, matrix, mistakes
    low, high = found.evaluation.top1_interval
    assert f"{100 * low:.2f} to {100 * high:.2f}" in page
    assert all(str(run) in page for run in runs[:2]) and "all together" in page
    assert "://" not in page.replace("http://www.w3.org", "")


def refused(call, *words):
    with pytest.raises(InputError) as error:
        call()
    assert all(word in str(error.value) for word in words), str(error.value)
    assert "\n" not in str(error.value)


def test_an_ensemble_is_of_several_different_runs(runs, tmp_path):
    folder = tmp_path / "new"
    refused(lambda: evaluate_ensemble(runs[:1], folder), "accepted: two run folders or more")
    link = tmp_path / "link"
    link.symlink_to(runs[0].folder)
    refused(
        lambda: evaluate_ensemble([runs[0], runs[1], Run(link)], folder),
        "one run is there twice",
        f"Received: {runs[0]} and {link}",
    )
    assert not folder.exists()


def test_a_run_without_a_model_has_no_say(runs, tmp_path):
    shutil.copytree(runs[0].folder, tmp_path / "begun")
    (tmp_path / "begun" / "best.keras").unlink()
    refused(
        lambda: evaluate_ensemble([runs[1], Run(tmp_path / "begun")], tmp_path / "new"),
        "the run's model is missing. Received: no ",
    )
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("names", "test_pixels", "words"),
    [
        (
            "9876543210",
            0,
            "tell the same classes apart, in the same order. Received: 0, 1, 2, 3, 4",
        ),
        ("0123456789", 255, "are measured on the same images. Received: digits, "),
    ],
)
def test_other_classes_and_other_images_are_refused(
    runs, tmp_path, monkeypatch, names, test_pixels, words
):
    class Other(sources.Digits):
        name = "digits"
        class_names = tuple(names)

        def load(self, split):
            loaded = super().load(split)
            if split != "test":
                return loaded
            return dataclasses.replace(loaded, images=loaded.images ^ test_pixels)

    shutil.copytree(runs[0].folder, tmp_path / "other")
    other, data = Run(tmp_path / "other"), check(Other())
    details = dataclasses.replace(
        other.read_details(), class_names=data.class_names, fingerprint=data.fingerprint
    )
    other.write_details(details)
    source_of = {runs[0].folder: sources.Digits(), other.folder: Other()}
    monkeypatch.setattr(
        ensembles, "data_of", lambda run, _: evaluation.data_of(run, source_of[run.folder])
    )
    refused(lambda: evaluate_ensemble([runs[0], other], tmp_path / "new"), words)
    assert not (tmp_path / "new").exists()


def test_what_is_in_the_folder_stays(runs, both, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.txt").write_text("years of work")
    refused(
        lambda: evaluate_ensemble(runs[:2], tmp_path / "thesis"), "holds files of something else"
    )
    assert os.listdir(tmp_path / "thesis") == ["thesis.txt"]
    before = contents(tmp_path)
    refused(
        lambda: evaluate_ensemble(runs[:2], both, Protocol("ten-crop")),
        "holds the result of another ensemble",
    )
    refused(lambda: evaluate_ensemble(runs, both), "result of another ensemble")
    assert contents(tmp_path) == before
    evaluate_ensemble(runs[1::-1], both, verbose=0)  # the same runs, measured again
    refused(
        lambda: evaluate_ensemble(runs[:2], tmp_path / "thesis" / "thesis.txt"), "cannot be written"
    )
    refused(lambda: evaluate_ensemble(runs[:2], Run("/proc/new").folder), "cannot be written")


def test_every_ensemble_has_a_default_folder_of_its_own(runs, tmp_path):
    folders = {
        default_folder(members, protocol, tmp_path)
        for members in (runs[:2], runs[1:], runs)
        for protocol in (Protocol(), Protocol("multi-scale"), Protocol("multi-scale", (20,)))
    }
    assert len(folders) == 9
    assert all(folder.name.startswith("ensemble-tiny-") for folder in folders)
    assert default_folder(runs[::-1], Protocol(), tmp_path) in folders


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": 2}, "is of another format. Received: 2; accepted: 1"),
        ({"members": [{}]}, "is damaged"),
        ({"members": 3}, "is damaged"),
        ({"members": []}, "is damaged"),
        ({"evaluation": {}}, "is damaged"),
        ({"evaluation": 3}, "is damaged"),
        ({"class_names": None}, "is damaged"),
        ({"class_names": ["0"]}, "is damaged"),
    ],
)
def test_a_damaged_result_is_told(both, changes, words):
    path = both / "ensemble.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    refused(lambda: report.write_ensemble_report(both), words)


@pytest.mark.parametrize("content", ["", "[]", "{}"])
def test_what_is_no_result_is_told(tmp_path, content):
    refused(lambda: read_ensemble(tmp_path), "no ensemble's folder")
    (tmp_path / "ensemble.json").write_text(content)
    refused(lambda: read_ensemble(tmp_path), "ensemble.json is damaged")


@pytest.mark.slow
def test_an_ensemble_on_arrays_of_a_session(tmp_path, test_images):
    images, labels = test_images.images, test_images.labels
    source = Arrays((images[:200], labels[:200]), (images[200:], labels[200:]))
    runs = [Run(tmp_path / name) for name in "ab"]
    for seed, run in enumerate(runs):
        recipe = dataclasses.replace(RECIPE, seed=seed)
        training.train("tiny", source, recipe, run, verbose=0)
        evaluate_run(run, 0, source, Protocol("ten-crop"))
    found = evaluate_ensemble(runs, tmp_path / "both", Protocol("ten-crop"), source, verbose=0)
    assert found.evaluation.images == 160
    assert report.write_ensemble_report(tmp_path / "both", source).exists()
