"""Runs that answer together: averaged by hand, and refused where they do not belong together."""

import dataclasses
import json
import os
import shutil
from functools import partial

import kit
import numpy as np
import pytest
from kit import RECIPE, contents, refusal

from resnet_keras.data import sources
from resnet_keras.data.arrays import Arrays
from resnet_keras.data.checks import check
from resnet_keras.evaluation import ensembles, evaluate, report
from resnet_keras.evaluation.ensembles import default_folder, evaluate_ensemble, read_ensemble
from resnet_keras.evaluation.evaluate import evaluate_run, load_run_model, score
from resnet_keras.evaluation.protocols import Protocol
from resnet_keras.runs.run import Run
from resnet_keras.training import train as training

pytestmark = pytest.mark.usefixtures("tiny_network")

ONE_EPOCH = dataclasses.replace(RECIPE, epochs=1)

train = partial(training.train, verbose=0, log_diagnostics=False)


@pytest.fixture(scope="module")
def runs(tiny_network):
    """Three runs of one network, not to be changed; the third sees larger images."""

    def make(folder):
        for seed, size in ((1, 8), (2, 12)):
            recipe = dataclasses.replace(ONE_EPOCH, seed=seed, image_size=size)
            train("tiny", "digits", recipe, folder / f"seed{seed}")

    others = kit.made_once("seeds", make)
    return [kit.finished_run(), Run(others / "seed1"), Run(others / "seed2")]


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


def test_an_ensemble_averages_probabilities(runs, test_images, tmp_path):
    before = [contents(run.folder) for run in runs]
    found = evaluate_ensemble(runs[:2], tmp_path / "both", verbose=0)
    total = np.zeros((360, 10))
    for run in runs[:2]:
        total += kit.answers(load_run_model(run), test_images.images)
    expected = score(total / 2, test_images.labels)
    assert found.evaluation.confusion_matrix == expected.confusion_matrix
    assert found.evaluation.loss == pytest.approx(expected.loss, abs=1e-6)
    assert [member.run for member in found.members] == [str(run) for run in runs[:2]]
    assert found.class_names == tuple("0123456789")
    assert read_ensemble(tmp_path / "both") == found
    assert [contents(run.folder) for run in runs] == before
    for member, run in zip(found.members, runs, strict=False):
        answers = kit.answers(load_run_model(run), test_images.images)
        assert member.alone.top1_error == score(answers, test_images.labels).top1_error


@pytest.mark.slow
def test_networks_of_several_sizes_have_scales_of_their_own(runs, tmp_path):
    protocol = Protocol("multi-scale")
    found = evaluate_ensemble(runs[1:], tmp_path / "both", protocol, verbose=0)
    scales = [member.protocol.scales for member in found.members]
    assert scales == [(8, 9, 14, 17, 23), (12, 14, 21, 26, 34)]
    assert read_ensemble(tmp_path / "both") == found
    page = report.write_ensemble_report(tmp_path / "both").read_text()
    assert "multi-scale 12 14 21 26 34" in page


@pytest.mark.slow
def test_the_page_of_an_ensemble(runs, both):
    found = read_ensemble(both)
    page = report.write_ensemble_report(both).read_text()
    low, high = found.evaluation.top1_interval
    assert f"{1 - high:.2%} to {1 - low:.2%}" in page
    assert page.count("Test image of the class") == min(len(found.evaluation.mistakes), 24)
    assert all(str(run) in page for run in runs[:2]) and "all together" in page
    assert "://" not in page.replace("http://www.w3.org", "")


def test_an_ensemble_is_of_several_different_runs(runs, tmp_path):
    folder = tmp_path / "new"
    assert "two" in refusal(evaluate_ensemble, runs[:1], folder).accepted
    link = tmp_path / "link"
    link.symlink_to(runs[0].folder)
    error = refusal(evaluate_ensemble, [runs[0], runs[1], Run(link)], folder)
    assert str(runs[0]) in error.received and str(link) in error.received
    assert not folder.exists()


def test_a_run_without_a_model_has_no_say(runs, tmp_path):
    shutil.copytree(runs[0].folder, tmp_path / "begun")
    (tmp_path / "begun" / "best.keras").unlink()
    error = refusal(evaluate_ensemble, [runs[1], Run(tmp_path / "begun")], tmp_path / "new")
    assert "best.keras" in str(error)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("names", "test_pixels", "received"),
    [("9876543210", 0, "0, 1, 2, 3, 4"), ("0123456789", 255, "digits")],
)
def test_other_classes_and_other_images_are_refused(
    runs, tmp_path, monkeypatch, names, test_pixels, received
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
        ensembles, "data_of", lambda run, _: evaluate.data_of(run, source_of[run.folder])
    )
    error = refusal(evaluate_ensemble, [runs[0], other], tmp_path / "new")
    assert received in error.received
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_what_is_in_the_folder_stays(runs, both, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.txt").write_text("years of work")
    refusal(evaluate_ensemble, runs[:2], tmp_path / "thesis")
    assert os.listdir(tmp_path / "thesis") == ["thesis.txt"]
    before = contents(tmp_path)
    refusal(evaluate_ensemble, runs[:2], both, Protocol("ten-crop"))
    refusal(evaluate_ensemble, runs, both)
    assert contents(tmp_path) == before
    evaluate_ensemble(runs[1::-1], both, verbose=0)  # the same runs, measured again
    for nowhere in (tmp_path / "thesis" / "thesis.txt", Run("/proc/new").folder):
        assert str(nowhere) in refusal(evaluate_ensemble, runs[:2], nowhere).received


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
    "changes",
    [
        {"members": [{}]},
        {"members": 3},
        {"members": []},
        {"evaluation": {}},
        {"evaluation": 3},
        {"class_names": None},
        {"class_names": ["0"]},
    ],
)
def test_a_damaged_result_is_refused(both, changes):
    path = both / "ensemble.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    assert "damaged" in str(refusal(report.write_ensemble_report, both))


def test_the_result_of_a_later_version_is_refused(both):
    path = both / "ensemble.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    error = refusal(report.write_ensemble_report, both)
    assert "2" in error.received and "1" in error.accepted


@pytest.mark.parametrize("content", [None, "", "[]", "{}"])
def test_what_is_no_result_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "ensemble.json").write_text(content)
    assert "ensemble.json" in str(refusal(read_ensemble, tmp_path))


@pytest.mark.slow
def test_an_ensemble_on_arrays_of_a_session(tmp_path, test_images):
    images, labels = test_images.images, test_images.labels
    source = Arrays((images[:200], labels[:200]), (images[200:], labels[200:]))
    runs = [Run(tmp_path / name) for name in "ab"]
    for seed, run in enumerate(runs):
        train("tiny", source, dataclasses.replace(ONE_EPOCH, seed=seed), run)
        evaluate_run(run, 0, source, Protocol("ten-crop"))
    found = evaluate_ensemble(runs, tmp_path / "both", Protocol("ten-crop"), source, verbose=0)
    assert found.evaluation.images == 160
    assert report.write_ensemble_report(tmp_path / "both", source).exists()
