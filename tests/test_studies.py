"""The papers' studies: what they train, and what their pages say."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from kit import command_refusal, refusal
from PIL import Image

from resnet_keras import architectures, studies
from resnet_keras.data import sources
from resnet_keras.evaluation.evaluate import evaluate, load_run_model
from resnet_keras.evaluation.results import read_evaluation
from resnet_keras.recipes import PAPER_CIFAR10, PAPER_CIFAR10_WARMUP, PAPER_IMAGENET
from resnet_keras.runs.run import Run
from resnet_keras.studies import comparison, gradients, lesions, page, running, schedules
from resnet_keras.studies.study import Setting, Table, spread
from resnet_keras.training.train import train

SETTINGS = {
    "quick": Setting("quick", "digits", 64, 1),
    "full": Setting("full", "cifar10", 32, 1),
    "large": Setting("full", "imagenet2012", 224, 1),
}
# A study of two tiny networks, and how a process of its own knows it.
TINY_STUDY = """
import sys
from dataclasses import replace
from resnet_keras import architectures, cli
from resnet_keras.architectures import NO_SHORTCUT, RESNET20, Stem
from resnet_keras.studies import schedules, shortcuts
tiny = replace(RESNET20, stem=Stem(4, 3), blocks=(1, 1, 1), filters=(4, 8, 16))

for depth in ("20", "32", "56"):
    architectures.NETWORKS[f"resnet{depth}"] = tiny
    architectures.NETWORKS[f"plain{depth}"] = replace(tiny, shortcut=NO_SHORTCUT)
architectures.NETWORKS["resnet44"] = replace(tiny, blocks=(4, 4, 4))
architectures.NETWORKS["plain44"] = replace(tiny, blocks=(4, 4, 4), shortcut=NO_SHORTCUT)
schedules.MINUTES = replace(schedules.MINUTES, epochs=2, warmup_epochs=0, image_size=8)
"""


@pytest.fixture(scope="module")
def _tiny():
    with pytest.MonkeyPatch.context() as patch, mock.patch.dict(architectures.NETWORKS):
        patch.setattr(schedules, "MINUTES", schedules.MINUTES)
        exec(TINY_STUDY, {})
        # Gradient norms, of which a study has figures, are left out until they are asked for.
        patch.setattr(running, "train", partial(running.train, log_diagnostics=False))
        yield


@pytest.fixture(scope="module")
def studied(tmp_path_factory, _tiny):
    """The page of a study that was run, and what it printed."""
    home = tmp_path_factory.mktemp("studies")
    return running.reproduce("shortcuts", seeds=1, folder=home)


@pytest.fixture(scope="module")
def lesioned(studied):
    """The page of the study that takes networks apart, beside the other's."""
    return running.reproduce("lesions", seeds=1, folder=studied.parent)


@pytest.mark.parametrize("name", studies.STUDIES)
@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_every_training_is_of_a_network_that_can_be_built(name, setting):
    study = studies.find(name)
    trainings = study.trainings(setting, 3)
    assert len({training.name for training in trainings}) == len(trainings) > 1
    for training in trainings:
        assert training.builder or architectures.find(training.network, training.shortcut)
        assert training.recipe.seed == 3
    assert study.title and study.source and study.claim and study.seeds.keys() == {"quick", "full"}


def test_full_is_what_the_papers_did():
    def recipe(network, setting):
        return replace(schedules.training(network, SETTINGS[setting], 0).recipe, seed=0)

    assert recipe("resnet56", "full") == PAPER_CIFAR10
    assert recipe("resnet110", "full") == PAPER_CIFAR10_WARMUP
    assert recipe("resnet34", "large") == PAPER_IMAGENET


def test_degradation_takes_the_networks_of_the_figures():
    def networks(setting):
        trainings = studies.find("degradation").trainings(SETTINGS[setting], 0)
        return [training.label for training in trainings]

    quick = [f"{kind}{depth}" for depth in (20, 32, 44, 56) for kind in ("plain", "resnet")]
    assert networks("quick") == quick
    assert networks("full") == [*quick, "plain110", "resnet110"]
    assert networks("large") == ["plain18", "resnet18-A", "plain34", "resnet34-A"]


@pytest.mark.slow
def test_the_page_tells_ours_from_the_papers(studied):
    text = (studied / "README.md").read_text()
    assert "He et al. 2016, table 3" in text
    assert "4 trainings, 1 of every network (seed 0), on digits at 8x8 pixels" in text
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert rows[0] == [
        "| network",
        "parameters",
        "training",
        "test",
        "paper: 34 layers, top-1 / top-5 |",
    ]
    named = {row[0].removeprefix("| "): row for row in rows[2:]}
    assert set(named) == {"plain20", *(f"resnet20, option {option}" for option in "ABC")}
    assert named["resnet20, option B"][4] == "*24.52 / 7.46* |"
    for row in named.values():
        assert re.fullmatch(r"\d+\.\d\d", row[3])
    parameters = [int(named[f"resnet20, option {one}"][1].replace(",", "")) for one in "ABC"]
    assert parameters == sorted(set(parameters))


@pytest.mark.slow
def test_the_page_has_its_pictures(studied):
    with Image.open(studied / "curves.png") as picture:
        assert min(picture.size) > 300
    assert ElementTree.parse(studied / "curves.svg").getroot().tag.endswith("svg")
    page = (studied / "index.html").read_text()
    assert '<img src="curves.png"' in page and "<table>" in page
    assert not list(studied.parent.glob(".partial*"))


@pytest.mark.slow
def test_what_is_trained_is_not_trained_again(studied, capsys):
    before = {path: path.stat().st_mtime_ns for path in studied.parent.glob("*/best.keras")}
    assert len(before) == 4
    running.reproduce("shortcuts", seeds=1, folder=studied.parent)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert capsys.readouterr().out.count("is finished") == 4


@pytest.mark.slow
def test_the_test_error_is_the_mean_of_all_seeds(studied, tmp_path):
    shutil.copytree(studied.parent, tmp_path / "studies")
    page = running.reproduce("shortcuts", seeds=2, folder=tmp_path / "studies")
    errors = [
        100 * read_evaluation(Run(page.parent / f"resnet20-A-seed{seed}")).top1_error
        for seed in (0, 1)
    ]
    text = (page / "README.md").read_text()
    assert "8 trainings, 2 of every network (seeds 0 to 1)" in text
    assert re.fullmatch(r"\d+\.\d\d ± \d+\.\d\d", spread(errors))
    assert spread(errors) in text


@pytest.mark.slow
def test_a_residual_unit_without_its_branch_is_a_unit_removed(lesioned):
    run = Run(lesioned.parent / "resnet44-seed0")
    patient = lesions.Patient(run)
    assert [patient.names[index] for index in patient.removable] == [
        *("2a", "2b", "2c", "2d", "3b", "3c", "3d", "4b", "4c", "4d")
    ]
    model = load_run_model(run)
    whole = evaluate(model, sources.find("digits").load("test"), verbose=0)
    assert patient.without([]) == pytest.approx(100 * whole.top1_error)
    errors = set()
    for index in patient.removable:
        last = model.get_layer(f"bn{patient.names[index]}_branch2b")
        weights = last.get_weights()
        _, _, mean, variance = weights
        last.set_weights([0 * mean, 0 * mean, mean, variance])
        cut = evaluate(model, sources.find("digits").load("test"), verbose=0)
        last.set_weights(weights)
        errors.add(patient.without([index]))
        assert patient.without([index]) == pytest.approx(100 * cut.top1_error)
    # Some units of a short training may not matter, and their removal change no answer.
    assert errors - {patient.without([])}


@pytest.mark.slow
def test_swapped_units_are_of_one_shape(lesioned):
    patient = lesions.Patient(Run(lesioned.parent / "plain44-seed0"))
    generator = np.random.default_rng(0)
    errors = {patient.swapped(generator, 3) for _ in range(4)}
    assert len(errors) > 1 and all(0 <= error <= 100 for error in errors)


@pytest.mark.slow
def test_lesions_tell_plain_from_residual(lesioned):
    text = (lesioned / "README.md").read_text()
    assert re.search(r"Without one unit the test error of resnet44 grows by [\d.-]+ points", text)
    assert "| plain44 | " in text and "| resnet44 | " in text
    assert (lesioned / "single.svg").exists() and (lesioned / "counts.png").exists()


@pytest.mark.slow
def test_responses_are_drawn_and_told(studied):
    page = running.reproduce("responses", seeds=1, folder=studied.parent)
    text = (page / "README.md").read_text()
    assert re.search(r"response is: plain20 \d+\.\d\d, resnet20 \d+\.\d\d, plain56", text)
    assert "| resnet56 | 7 | " in text and (page / "responses.svg").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("_tiny")
def test_gradients_of_a_network_that_diverges(tmp_path, monkeypatch):
    monkeypatch.setattr(running, "train", train)
    bad = replace(schedules.MINUTES, learning_rate=1e30)
    usual = schedules.training

    def training(network, setting, seed):
        found = usual(network, setting, seed)
        return replace(found, recipe=replace(bad, seed=seed)) if "without-bn" in network else found

    monkeypatch.setattr(gradients, "training", training)
    page = running.reproduce("gradients", seeds=1, folder=tmp_path)
    text = (page / "README.md").read_text()
    assert re.search(
        r"\| plain56-without-bn \| [^|]+ \| [^|]+ \| diverged \| diverged \| div", text
    )
    assert re.search(r"\| resnet56 \| [^d]+ \|\n", text)
    assert (page / "layers.png").exists()
    drawn = (page / "training.svg").read_text()
    assert drawn.count("<!-- stage3 -->") == 2  # in the legends of the networks that trained
    assert drawn.count("<!-- no epoch ended -->") == 2


@pytest.mark.slow
def test_protocols_are_compared_alone_and_together(studied, capsys):
    page = running.reproduce("crops-and-ensembles", seeds=1, folder=studied.parent)
    text = (page / "README.md").read_text()
    rows = re.findall(r"\| (resnet\d\d|ensemble) \| ([\d./ ]+) \| ([\d./ ]+) \|", text)
    assert [label for label, *_ in rows] == [*(f"resnet{n}" for n in (20, 32, 44, 56)), "ensemble"]
    run = Run(studied.parent / "resnet32-jittered-seed0")
    single = read_evaluation(run)
    assert rows[1][1] == f"{100 * single.top1_error:.2f} / {100 * single.top5_error:.2f}"
    assert "by ten-crop" in text and (page / "protocols.png").exists()
    assert capsys.readouterr().out.count("\ntesting ") == 4 * 3
    running.reproduce("crops-and-ensembles", seeds=1, folder=studied.parent)
    assert "\ntesting " not in capsys.readouterr().out


@pytest.mark.slow
def test_other_families_are_trained_by_the_same_code(tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(20):
            pixels = generator.integers(0, 256, (32, 32, 3)).astype("uint8")
            Image.fromarray(pixels).save(tmp_path / "images" / label / f"{number}.png")
    monkeypatch.setattr(comparison, "FEW_EPOCHS", replace(comparison.FEW_EPOCHS, epochs=2))
    page = running.reproduce("comparison", str(tmp_path / "images"), seeds=1, folder=tmp_path)
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (page / "README.md").read_text().splitlines()
        if line.startswith("| ")
    ]
    named = {row[0]: row for row in rows}
    assert named["densenet121"][1] == "7,978,856"  # as Huang et al. 2017 have it: 8.0M
    assert named["resnet50"][1:3] == ["25,557,032", "3.86"]
    assert named["vgg19"][2:] == ["19.63", "", "", "", "*19.6*", ""]
    assert all(float(named[name][3]) > 0 for name in ("resnet50", "resnext50-32x4d", "densenet121"))
    assert (page / "comparison.svg").exists()


@pytest.mark.slow
def test_a_study_that_was_killed_goes_on(tmp_path):
    command = [sys.executable, "-c", f"{TINY_STUDY}cli.main(sys.argv[1:])", "reproduce"]
    command += ["shortcuts", "--seeds", "1", "--output", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    second = tmp_path / "resnet20-A-seed0"
    until = time.monotonic() + 300
    while not (second / "history.csv").exists():
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    first = (tmp_path / "plain20-seed0" / "history.csv").stat().st_mtime_ns
    assert not (tmp_path / "shortcuts").exists()

    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "plain20-seed0 is finished" in again.stdout
    assert (tmp_path / "plain20-seed0" / "history.csv").stat().st_mtime_ns == first
    assert (tmp_path / "shortcuts" / "README.md").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["degradatoin"], ["'degradatoin'", "did you mean degradation"]),
        (["depth", "--data", "nowhere"], ["'nowhere'", "digits"]),
        (["depth", "--seeds", "0"], ["seeds", "0", "1"]),
    ],
)
def test_bad_input_is_one_line(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = command_refusal("reproduce", *arguments)
    assert all(word in line for word in words), line
    assert not list(Path().iterdir())


@pytest.mark.slow
def test_nothing_of_tensorflow_is_seen_beside_a_refusal(tmp_path):
    command = [sys.executable, "-m", "resnet_keras", "reproduce", "gradients", "--seeds", "0"]
    quiet = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    ended = subprocess.run(command, cwd=tmp_path, env=quiet, capture_output=True, text=True)
    assert ended.returncode == 2 and not ended.stdout
    (line,) = ended.stderr.splitlines()
    assert line.startswith("resnet-keras: error: ")


def test_studies_stay_out_of_the_folder_of_a_run(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    assert str(tmp_path) in refusal(running.reproduce, "depth", folder=tmp_path).received
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_a_column_in_which_the_papers_print_nothing_is_left_out():
    table = Table("Error", ("network", "here", "paper: a", "paper: b"), (("x", "1", "", "2"),))
    assert page._markdown(table).splitlines() == [
        "Error:",
        "",
        "| network | here | paper: b |",
        "| --- | ---: | ---: |",
        "| x | 1 | *2* |",
    ]


def test_an_unwritable_place_is_refused(tmp_path):
    (tmp_path / "file").write_text("in the way")
    line = command_refusal("reproduce", "depth", "--output", tmp_path / "file")
    assert os.fspath(tmp_path / "file") in line
