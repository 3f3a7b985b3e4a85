"""The papers' studies: what they train, and what their pages say."""

import os
import re
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
from kit import command_refusal, docs_script, refusal
from PIL import Image

from resnet_keras import architectures, studies
from resnet_keras.data import sources
from resnet_keras.evaluation.evaluate import evaluate, load_run_model
from resnet_keras.evaluation.results import read_evaluation
from resnet_keras.recipes import PAPER_CIFAR10, PAPER_CIFAR10_WARMUP, PAPER_IMAGENET
from resnet_keras.runs.run import Run
from resnet_keras.studies import (
    comparison,
    depth,
    estimate,
    gradients,
    lesions,
    page,
    running,
    schedules,
)
from resnet_keras.studies.study import Setting, Table, spread
from resnet_keras.training.train import train

SETTINGS = {
    "digits": Setting("quick", "digits", 64, 1, 1257, 180, 360),
    "quick": Setting("quick", "fashion-mnist,per_class=1000", 28, 1, 10_000, 5000, 10_000),
    "full": Setting("full", "cifar10", 32, 1, 45_000, 5000, 10_000),
    "large": Setting("full", "imagenet2012", 224, 1, 1_281_167, 50_000, 50_000),
    "large-quick": Setting("quick", "photos", 224, 1, 2000, 200, 200),
}
DATA = "digits,per_class=20"  # for tiny networks
# Studies of tiny networks, and how a process of its own knows them.
TINY_STUDY = """
import sys
from dataclasses import replace
from resnet_keras import architectures, cli
from resnet_keras.architectures import NETWORKS, NO_SHORTCUT, RESNET20, Stem
from resnet_keras.studies import depth, schedules
tiny = replace(RESNET20, stem=Stem(4, 3), blocks=(1, 1, 1), filters=(4, 8, 16))

for layers in ("8", "14", "20", "32", "44"):
    blocks = (3, 3, 3) if layers == "44" else (1, 1, 1)
    NETWORKS[f"resnet{layers}"] = replace(tiny, blocks=blocks)
    NETWORKS[f"plain{layers}"] = replace(tiny, blocks=blocks, shortcut=NO_SHORTCUT)
NETWORKS["densenet100-k12"] = replace(
    NETWORKS["densenet100-k12"], blocks=(1, 2, 2), filters=(4, 4, 4)
)
depth._depths = lambda setting: (8, 20)
schedules.FEW_IMAGES = replace(schedules.FEW_IMAGES, epochs=1, warmup_epochs=0, image_size=8)
"""


@pytest.fixture(scope="module")
def _tiny():
    with pytest.MonkeyPatch.context() as patch, mock.patch.dict(architectures.NETWORKS):
        patch.setattr(schedules, "FEW_IMAGES", schedules.FEW_IMAGES)
        patch.setattr(depth, "_depths", depth._depths)
        patch.setattr(lesions, "COUNTS", (1, 2, 4))
        patch.setattr(lesions, "DRAWS", 2)
        exec(TINY_STUDY, {})
        # Gradient norms, of which a study has figures, are left out until they are asked for.
        patch.setattr(running, "train", partial(running.train, log_diagnostics=False))
        yield


@pytest.fixture(scope="module")
def studied(tmp_path_factory, _tiny):
    """The page of a study that was run, and what it printed."""
    home = tmp_path_factory.mktemp("studies")
    return running.reproduce("shortcuts", DATA, seeds=1, folder=home)


@pytest.fixture(scope="module")
def lesioned(studied):
    """The page of the study that takes networks apart, beside the other's."""
    return running.reproduce("lesions", DATA, seeds=1, folder=studied.parent)


@pytest.mark.parametrize("name", studies.STUDIES)
@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_every_training_is_of_a_network_that_can_be_built(name, setting):
    study = studies.find(name)
    trainings = study.trainings(setting, 3)
    assert len({training.name for training in trainings}) == len(trainings) > 1
    for training in trainings:
        assert architectures.find(training.network, training.shortcut) == training.architecture
        assert training.recipe.seed == 3
    assert (
        study.title
        and study.source
        and study.paper_claim
        and study.seeds.keys() == {"quick", "full"}
    )


@pytest.mark.parametrize("name", studies.STUDIES)
@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_every_claim_compares_two_quantities_of_the_study(name, setting):
    study = studies.find(name)
    claims = study.claims(setting)
    assert len(set(claims)) == len(claims) > 0
    labels = {training.label for training in study.trainings(setting, 0)}
    for claim in claims:
        assert claim.first != claim.second and claim.text.endswith(".")
        for quantity in (claim.first, claim.second):
            assert quantity.label in labels or name == "crops-and-ensembles"
    assert min(study.seeds.values()) > 1  # without an interval nothing is shown


@pytest.mark.parametrize("name", studies.STUDIES)
def test_a_quick_study_takes_at_most_40_minutes(name):
    study = studies.find(name)
    for setting in (SETTINGS["digits"], SETTINGS["quick"]):
        minutes = estimate.minutes(study, setting, study.seeds["quick"])
        assert 0 < minutes["AVX-512 and bfloat16"] <= 40


def test_the_page_of_claims_is_that_of_the_code():
    gather = docs_script("gather_studies")
    assert gather.CLAIMS.read_text("utf-8") == gather.claims()


def test_the_estimate_by_hand():
    # 10,000 images are 78.125 batches of 128, 0.17 s each; a forward pass is a third of a step.
    study = studies.find("degradation")
    (plain20, *_) = study.trainings(SETTINGS["quick"], 0)
    steps = plain20.recipe.epochs * (10_000 + 5000 / 3) + 10_000 / 3
    alone = replace(study, trainings=lambda *_: [plain20])
    minutes = estimate.minutes(alone, SETTINGS["quick"], 2)
    assert minutes["AVX-512 and bfloat16"] == pytest.approx(2 * steps / 128 * 0.17 / 60)
    assert [estimate.in_words(one) for one in (5.04, 39.6, 300, 9000)] == [
        "5.0 min", "40 min", "5 hours", "6 days"
    ]  # fmt: skip


def test_quick_takes_a_fixed_sample_of_larger_data(tmp_path, monkeypatch):
    monkeypatch.setattr(running, "PER_CLASS", 30)
    setting = running._setting("quick", "digits", 2)
    assert (setting.data, setting.training_images) == ("digits,per_class=30", 300)
    assert (setting.validation_images, setting.test_images) == (180, 360)
    assert running._setting("full", "digits", 2).training_images == 1257
    assert schedules.quick(SETTINGS["quick"]).image_size == 28


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

    def pairs(*depths):
        return [f"{kind}{depth}" for depth in depths for kind in ("plain", "resnet")]

    assert networks("quick") == networks("digits") == pairs(20, 44)
    assert networks("full") == pairs(20, 32, 44, 56, 110)
    assert networks("large") == ["plain18", "resnet18-A", "plain34", "resnet34-A"]


@pytest.mark.slow
def test_the_page_tells_ours_from_the_papers(studied):
    text = (studied / "README.md").read_text()
    assert "He et al. 2016, table 3" in text
    assert f"4 trainings, 1 of every network (seed 0), on {DATA} at 8x8 pixels" in text
    assert "200 training, 180 validation and 360 test images" in text
    figures = text.partition("## Figures")[2].partition("## Scales")[0]
    rows = [line.split(" | ") for line in figures.splitlines() if line.startswith("| ")]
    assert rows[0] == [
        "| network",
        "parameters",
        "training",
        "test",
        "paper: 34 layers, top-1 / top-5 |",
    ]
    named = {row[0].removeprefix("| "): row for row in rows[2:]}
    assert set(named) == {"plain32", *(f"resnet32, option {option}" for option in "ABC")}
    assert named["resnet32, option B"][4] == "*24.52 / 7.46* |"
    for row in named.values():
        assert re.fullmatch(r"\d+\.\d\d", row[3])
    parameters = [int(named[f"resnet32, option {one}"][1].replace(",", "")) for one in "ABC"]
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
    before = {path: path.stat().st_mtime_ns for path in studied.parent.glob("*32*/best.keras")}
    assert len(before) == 4
    running.reproduce("shortcuts", DATA, seeds=1, folder=studied.parent)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert capsys.readouterr().out.count("is finished") == 4


@pytest.mark.slow
def test_the_page_states_and_judges_every_claim(studied):
    text = (studied / "README.md").read_text()
    claims = studies.find("shortcuts").claims(SETTINGS["digits"])
    headline = docs_script("gather_studies").headline(text)
    assert headline == f"{len(claims)} not shown of {len(claims)} claims"  # with one seed
    for claim in claims:
        effect = f"{claim.comparison} | {claim.counts} |"
        assert re.search(
            rf"\| {re.escape(claim.text)} \| {re.escape(effect)} -?[\d.]+ \(no interval\)", text
        )
    scales = text.partition("## Scales")[2]
    assert (
        scales.count("| quick | ") == 2 and "| full | cifar10, 45,000 images | plain56, " in scales
    )


@pytest.mark.slow
def test_lines_of_pages_are_short(studied, lesioned):
    for place in (studied, lesioned):
        lines = (place / "README.md").read_text().splitlines()
        assert not [
            one for one in lines if len(one) > 100 and not one.startswith(("|", "![", "    "))
        ]


@pytest.mark.slow
def test_a_residual_unit_without_its_branch_is_a_unit_removed(lesioned):
    run = Run(lesioned.parent / "resnet44-seed0")
    patient = lesions.Patient(run)
    assert [patient.names[index] for index in patient.removable] == [
        *("2a", "2b", "2c", "3b", "3c", "4b", "4c")
    ]
    model = load_run_model(run)
    test = sources.find("digits").load("test")
    whole = evaluate(model, test, verbose=0)
    assert patient.without([]) == pytest.approx(100 * whole.top1_error)
    errors = set()
    for index in patient.removable:
        last = model.get_layer(f"bn{patient.names[index]}_branch2b")
        weights = last.get_weights()
        _, _, mean, variance = weights
        last.set_weights([0 * mean, 0 * mean, mean, variance])
        cut = evaluate(model, test, verbose=0)
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
    assert re.search(r"plain44 - resnet44 \| above 10 points \| -?[\d.]+ \(no interval\)", text)
    assert "| plain44 | " in text and "| resnet44 | " in text
    assert (lesioned / "single.svg").exists() and (lesioned / "counts.png").exists()


@pytest.mark.slow
def test_responses_are_drawn_and_told(studied):
    page = running.reproduce("responses", DATA, seeds=1, folder=studied.parent)
    text = (page / "README.md").read_text()
    assert "responses: plain44 - resnet44 | above 0.02 | " in text
    assert "| resnet44 | 19 | " in text and (page / "responses.svg").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("_tiny")
def test_gradients_of_a_network_that_diverges(tmp_path, monkeypatch):
    monkeypatch.setattr(running, "train", train)
    bad = replace(schedules.FEW_IMAGES, learning_rate=1e30)
    usual = schedules.training

    def training(network, setting, seed):
        found = usual(network, setting, seed)
        return replace(found, recipe=replace(bad, seed=seed)) if "without-bn" in network else found

    monkeypatch.setattr(gradients, "training", training)
    monkeypatch.setattr(gradients, "_depth", lambda setting: 20)
    page = running.reproduce("gradients", DATA, seeds=1, folder=tmp_path)
    text = (page / "README.md").read_text()
    assert re.search(
        r"\| plain20-without-bn \| [^|]+ \| [^|]+ \| diverged \| diverged \| div", text
    )
    assert re.search(r"\| resnet20 \| [^d]+ \|\n", text)
    assert "three layers | above -1 decades | " in text
    assert (page / "layers.png").exists()
    drawn = (page / "training.svg").read_text()
    assert drawn.count("<!-- stage3 -->") == 2  # in the legends of the networks that trained
    assert drawn.count("<!-- no epoch ended -->") == 2


@pytest.mark.slow
def test_protocols_are_compared_alone_and_together(studied, capsys):
    page = running.reproduce("crops-and-ensembles", DATA, seeds=1, folder=studied.parent)
    text = (page / "README.md").read_text()
    rows = re.findall(r"\| (resnet\d+|ensemble) \| ([\d./ ]+) \| ([\d./ ]+) \|", text)
    assert [label for label, *_ in rows] == ["resnet8", "resnet14", "resnet20", "ensemble"]
    run = Run(studied.parent / "resnet14-jittered-seed0")
    single = read_evaluation(run)
    assert rows[1][1] == f"{100 * single.top1_error:.2f} / {100 * single.top5_error:.2f}"
    assert "ten-crop test error" in text and (page / "protocols.png").exists()
    assert capsys.readouterr().out.count("\ntesting ") == 3 * 3
    running.reproduce("crops-and-ensembles", DATA, seeds=1, folder=studied.parent)
    assert "\ntesting " not in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.usefixtures("_tiny")
def test_other_families_are_trained_by_the_same_code(tmp_path, monkeypatch):
    resnet, *_, densenet = comparison.QUICK
    monkeypatch.setattr(comparison, "QUICK", (resnet, densenet))
    page = running.reproduce("comparison", DATA, seeds=1, folder=tmp_path)
    text = (page / "README.md").read_text()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.partition("## Figures")[2].partition("## Scales")[0].splitlines()
        if line.startswith("| ")
    ]
    named = {row[0]: row for row in rows}
    for rival in (resnet, densenet):
        speed, error = map(float, named[rival.network][3:5])
        assert speed > 0 and 0 <= error <= 100
    # Rows of the full scale: parameters as pytorchcv has them, nothing trained.
    assert named["densenet250-k24"][1] == "15,324,406"
    assert named["resnext29-8x64d"][3:] == ["", "", "*3.65*"]
    assert text.count("has a lower test error than the ResNet. | ") == 1
    assert (page / "comparison.svg").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("_tiny")
def test_a_study_that_was_killed_goes_on_and_takes_more_seeds(tmp_path):
    command = [sys.executable, "-c", f"{TINY_STUDY}cli.main(sys.argv[1:])", "reproduce"]
    command += ["depth", "--data", DATA, "--seeds", "1", "--output", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    second = tmp_path / "resnet20-seed0"
    until = time.monotonic() + 300
    while not (second / "history.csv").exists():
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    first = (tmp_path / "resnet8-seed0" / "history.csv").stat().st_mtime_ns
    assert not (tmp_path / "depth").exists()

    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "resnet8-seed0 is finished" in again.stdout
    claim, *_ = studies.find("depth").claims(SETTINGS["digits"])
    assert again.stdout.index(claim.text) < again.stdout.index("training 1 of 2")
    assert (tmp_path / "resnet8-seed0" / "history.csv").stat().st_mtime_ns == first
    assert "(no interval)" in (tmp_path / "depth" / "README.md").read_text()

    page = running.reproduce("depth", DATA, seeds=2, folder=tmp_path)
    assert (tmp_path / "resnet8-seed0" / "history.csv").stat().st_mtime_ns == first
    text = (page / "README.md").read_text()
    errors = [
        100 * read_evaluation(Run(tmp_path / f"resnet20-seed{seed}")).top1_error for seed in (0, 1)
    ]
    assert "4 trainings, 2 of every network (seeds 0 to 1)" in text
    assert re.fullmatch(r"\d+\.\d\d ± \d+\.\d\d", spread(errors)) and spread(errors) in text
    interval = r"-?[\d.]+ to -?[\d.]+|no interval"  # open if no network has learnt anything
    assert re.search(rf"{claim.counts} \| -?[\d.]+ \(({interval})\) \| \*\*", text)


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
