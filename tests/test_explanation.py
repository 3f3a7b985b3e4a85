"""Explanations: what is in them, where their pictures go, and in the report and TensorBoard."""

import dataclasses
import shutil

import keras
import kit
import numpy as np
import pytest
from kit import TINY_FAMILY, answers, command_refusal, contents, draw_images, refusal, trained
from PIL import Image

from resnet_keras import cli
from resnet_keras.data.splits import ArraySplit
from resnet_keras.evaluation import explanation, plots, report
from resnet_keras.evaluation.evaluate import (
    Mistake,
    load_run_model,
    read_evaluation,
    write_evaluation,
)
from resnet_keras.evaluation.grad_cam import grad_cam
from resnet_keras.evaluation.introspection import responses
from resnet_keras.evaluation.protocols import Protocol
from resnet_keras.networks.feature_maps import features
from resnet_keras.networks.models import build

pytestmark = pytest.mark.usefixtures("tiny_network")

NAMES = ("a", "b", "c", "d", "e")


@pytest.fixture(scope="module")
def finished():
    """A finished run, not to be changed."""
    return kit.finished_run()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a photograph and a digit, in which commands run."""
    inside = tmp_path / "images"
    inside.mkdir()
    monkeypatch.chdir(inside)
    Image.fromarray(draw_images(1, 48)[0, :32]).save("photo.jpg")
    Image.fromarray(draw_images(1, 8)[0]).save("small.png")
    return inside


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# What is in an explanation


def test_an_explanation_is_of_the_most_probable_class():
    model, image = trained(TINY_FAMILY["resnet18"]), draw_images(1)
    probabilities = answers(model, image)[0]
    found = explanation.explain(model, image[0], NAMES)
    assert found.class_name == NAMES[probabilities.argmax()]
    assert found.probability == pytest.approx(probabilities.max(), abs=1e-6)
    np.testing.assert_array_equal(found.image, image[0])
    assert list(found.heat) == list(found.maps) == ["C2", "C3"]
    for stage, maps in features(model)(image).items():
        np.testing.assert_allclose(found.maps[stage], maps[0], atol=1e-5)
        np.testing.assert_allclose(found.heat[stage], grad_cam(model, image, None, stage)[0])
    assert found.responses == pytest.approx(responses(model, image))


def test_an_explanation_of_another_class_and_another_size():
    model, image = trained(TINY_FAMILY["resnet18"]), draw_images(1, 64)[0]
    least = answers(model, draw_images(1))[0].argmin()
    found = explanation.explain(model, image, NAMES, least)
    assert found.class_name == NAMES[least] and found.image.shape == (32, 32, 3)
    expected = grad_cam(model, found.image[None], [least])[0]
    np.testing.assert_allclose(found.heat["C3"], expected)


def test_another_packages_model_is_not_explained():
    foreign = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten()], name="foreign")
    assert "foreign" in str(refusal(explanation.explain, foreign, draw_images(1, 8)[0], NAMES))


# Pictures


def test_heat_shines_where_it_is():
    heat = np.zeros((4, 4), "float32")
    heat[0, 3] = 1
    image = np.full((8, 8, 3), 128, np.uint8)
    picture = plots.pixels(plots.heat_maps(image, {"C2": heat}, "title")).astype(int)
    rows, columns = np.nonzero(picture.max(-1) - picture.min(-1) > 60)
    height, width, _ = picture.shape
    assert rows.max() < 0.6 * height and columns.min() > 0.75 * width


@pytest.mark.parametrize("network", ["resnet20", "preresnet110"])
def test_pictures_of_networks_of_any_depth(network):
    model, image = build(TINY_FAMILY[network]), draw_images(1)[0]
    drawn = explanation.draw(explanation.explain(model, image, NAMES))
    assert tuple(drawn) == explanation.EXPLANATIONS
    assert all(plots.pixels(png).std() > 10 for png in drawn.values())
    many = {f"res2b{number}_branch2a": 1.0 for number in range(200)}
    assert plots.pixels(plots.layer_responses(many, ["stage2"] * 200)).std() > 10


def test_mistakes_are_drawn_with_both_classes():
    model, images = trained(TINY_FAMILY["resnet18"]), draw_images(12)
    split = ArraySplit(images, np.zeros(12, int))
    mistakes = [Mistake(image, 0, 1 + image % 4, 0.5) for image in range(12)]
    long = [rf"$\{name}$ is a class with a very long name" for name in NAMES]  # no formulas
    sizes = [
        plots.pixels(
            kit.known(explanation.explain_mistakes(model, split, mistakes[:count], long))
        ).shape
        for count in (1, 2, 3, 8, 12)
    ]
    assert sizes[0] == sizes[1] != sizes[2] != sizes[3] == sizes[4]


def test_without_mistakes_or_stages_there_is_no_picture():
    model, split = build(TINY_FAMILY["resnet18"]), ArraySplit(draw_images(1), np.zeros(1, int))
    assert explanation.explain_mistakes(model, split, (), NAMES) is None
    layers = [keras.Input((32, 32, 3)), keras.layers.Flatten(), keras.layers.Dense(5)]
    foreign = keras.Sequential(layers)
    assert explanation.explain_mistakes(foreign, split, [Mistake(0, 0, 1, 0.5)], NAMES) is None


# The command line


def test_predict_explains_beside_the_images(finished, folder, capsys):
    options = ("--run", str(finished.folder), "--top", "2")
    cli.main(["predict", "photo.jpg", "small.png", *options])
    without = capsys.readouterr().out.splitlines()
    before = {name: (folder / name).read_bytes() for name in names(folder)}
    cli.main(["predict", "photo.jpg", "small.png", *options, "--explain"])
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if not line.startswith("  explanation: ")] == without
    made = [f"photo-{name}.png" for name in explanation.EXPLANATIONS]
    assert lines[3] == f"  explanation: {', '.join(made)}"
    assert names(folder) == sorted([*before, *made, *(f"small{name[5:]}" for name in made)])
    assert all((folder / name).read_bytes() == content for name, content in before.items())
    for path in folder.glob("*-*.png"):
        with Image.open(path) as picture:
            picture.load()
            assert picture.format == "PNG" and picture.width > 400


@pytest.mark.slow
def test_predict_explains_a_class_into_a_folder(finished, folder):
    options = ("--explain", "--class", "7", "--output", "made/of-7")
    cli.main(["predict", "small.png", "--run", str(finished.folder), *options])
    assert names(folder) == ["made", "photo.jpg", "small.png"]
    image = np.asarray(Image.open("small.png"))
    found = explanation.explain(load_run_model(finished), image, tuple("0123456789"), 7)
    assert found.class_name == "7"
    for name, png in explanation.draw(found).items():
        assert (folder / "made" / "of-7" / f"small-{name}.png").read_bytes() == png


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["photo.jpg", "--explain", "--class", "11"], ["'11'", "did you mean"]),
        (["photo.jpg", "--explain", "--class", "cat"], ["'cat'", "0, 1, 2"]),
        (["photo.jpg", "--class", "1"], ["--class 1", "--explain"]),
        (["photo.jpg", "--output", "x"], ["--output x", "--explain"]),
        (["photo.jpg", "--explain", "--output", "/proc/x"], ["/proc/x"]),
        (["photo.jpg", "--explain", "--output", "small.png"], ["small.png"]),
        (["photo.jpg", "photo.png", "--explain"], ["photo.jpg and photo.png"]),
        (["photo.jpg", "photo-features.png", "--explain"], ["photo-features.png"]),
    ],
)
def test_predict_refuses_before_it_writes(finished, folder, arguments, words):
    for copy in ("photo.png", "photo-features.png"):
        shutil.copy("small.png", copy)
    before = contents(folder)
    line = command_refusal("predict", *arguments, "--run", finished.folder)
    assert all(word in line for word in words), line
    assert contents(folder) == before


def test_pictures_that_cannot_be_written_are_refused(finished, folder):
    (folder / "small-features.png").mkdir()
    command_refusal("predict", "small.png", "--run", finished.folder, "--explain")
    assert not [name for name in names(folder) if "partial" in name]


# The report

HEAT = "<h3>What the network looks at</h3>"


def test_the_report_explains_the_worst_mistakes(run):
    report.write_report(run)
    page = run.report.read_text()
    assert page.count(HEAT) == 1
    write_evaluation(run, kit.known(read_evaluation(run)), Protocol("ten-crop"))
    report.write_report(run)
    assert run.report.read_text().count(HEAT) == 1  # other protocols have no single view


@pytest.mark.slow
def test_the_report_without_a_model_or_mistakes(run):
    evaluation = kit.known(read_evaluation(run))
    faultless = dataclasses.replace(evaluation, top1_error=0.0, mistakes=())
    assert evaluation.mistakes
    run.best_model.rename(run.folder / "kept.keras")
    report.write_report(run)
    assert HEAT not in run.report.read_text()
    (run.folder / "kept.keras").rename(run.best_model)
    write_evaluation(run, faultless)
    report.write_report(run)
    assert HEAT not in run.report.read_text()
