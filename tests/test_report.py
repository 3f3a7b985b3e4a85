"""The report of a run: its counts, scores, files and commands, against hand calculations."""

import base64
import dataclasses
import io
import json
import re
import shlex
from html.parser import HTMLParser

import kit
import numpy as np
import pytest
from PIL import Image

from resnet_keras import recipes
from resnet_keras.architectures import NETWORKS
from resnet_keras.data.arrays import Arrays
from resnet_keras.data.augmentation import Augmentation, CutMix, PadAndCrop
from resnet_keras.data.checks import check
from resnet_keras.data.folder import Folder
from resnet_keras.data.splits import ArraySplit
from resnet_keras.evaluation import report
from resnet_keras.evaluation.class_scores import ConfusedPair, Scores, class_scores, confused_pairs
from resnet_keras.evaluation.commands import training_command
from resnet_keras.evaluation.evaluate import score
from resnet_keras.evaluation.report_facts import data_facts, network_facts
from resnet_keras.evaluation.results import (
    read_evaluation,
    with_names,
    write_evaluation,
)
from resnet_keras.evaluation.thumbnails import samples
from resnet_keras.runs.run import Run

pytestmark = pytest.mark.usefixtures("tiny_network")

NAMES = ('<b>猫</b> & "co"', "قطة صغيرة تجلس على السجادة الحمراء في البيت", "बिल्ली")
MATRIX = [[6, 2, 0, 0], [2, 2, 0, 0], [0, 0, 0, 0], [0, 4, 0, 0]]


class Outline(HTMLParser):
    """What a reader without eyes has of a page: headings, images without words, text."""

    def __init__(self, page):
        super().__init__()
        self.levels, self.silent, self.text = [], [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        if re.fullmatch(r"h\d", tag):
            self.levels.append(int(tag[1]))
        if tag == "img" and not dict(attrs).get("alt"):
            self.silent.append(attrs)

    def handle_data(self, data):
        self.text += data


def test_scores_of_classes_by_hand():
    found, means = class_scores(MATRIX)
    assert found == [
        Scores(6 / 8, 6 / 8, 3 / 4),
        Scores(2 / 8, 2 / 4, 1 / 3),
        Scores(None, None, None),  # no image is of this class, none is predicted as it
        Scores(None, 0.0, 0.0),  # all images are predicted as another class
    ]
    expected = (1 / 2, 5 / 12, 13 / 36)
    assert dataclasses.astuple(means) == pytest.approx(expected)


def test_the_most_confused_classes_stand_first():
    pairs = [ConfusedPair(3, 1, 4, 1.0), ConfusedPair(0, 1, 2, 0.25), ConfusedPair(1, 0, 2, 0.5)]
    assert confused_pairs(MATRIX, 9) == pairs
    assert confused_pairs(MATRIX, 2) == pairs[:2]
    assert confused_pairs(np.eye(3, dtype=int), 9) == []


@pytest.fixture
def photos(tmp_path):
    """Photographs in folders of splits and classes: 3 and 2 to train on, 1 and 1, 1 and 2."""
    counts = {"train": (3, 2), "val": (1, 1), "test": (1, 2)}
    for split, of_classes in counts.items():
        for name, count in zip(("cat", "dog"), of_classes, strict=True):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(kit.draw_images(1, 12)[0]).save(folder / f"{name} {number}.png")
    return Folder(tmp_path / "photos")


def test_mistakes_name_their_files_and_classes(photos, tmp_path):
    test = photos.load("test")
    assert test.labels.tolist() == [0, 1, 1]
    answers = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])
    found = with_names(score(answers, test.labels), test, photos.class_names)
    write_evaluation(Run(tmp_path), found)
    (mistake,) = json.loads((tmp_path / "evaluation.json").read_text())["mistakes"]
    assert mistake == {
        "image": 1,
        "label": 1,
        "predicted": 0,
        "probability": 0.8,
        "file": str(tmp_path / "photos/test/dog/dog 0.png"),
        "true_class": "dog",
        "predicted_class": "cat",
    }
    assert read_evaluation(Run(tmp_path)) == found


def test_images_are_counted_by_split_and_class(photos):
    facts = data_facts(check(photos))
    assert facts.totals == {"train": 5, "validation": 2, "test": 3}
    assert list(facts.classes) == [("cat", (3, 1, 1)), ("dog", (2, 1, 2))]


def decoded(url):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))


@pytest.mark.parametrize(
    ("augmentation", "others"),
    [
        (Augmentation(PadAndCrop(), flip=True), {0}),  # the padding is black
        (Augmentation(cutmix=CutMix(), label_smoothing=0.1), set(range(20, 200, 20))),
    ],
)
def test_a_sample_stands_beside_its_own_augmented_images(augmentation, others):
    # Each image has a brightness of its own.
    images = np.repeat(np.arange(20, 200, 20, dtype=np.uint8), 8 * 8 * 3).reshape(-1, 8, 8, 3)
    split = ArraySplit(images, np.arange(len(images)) // 2)
    found = samples(split, dataclasses.replace(kit.RECIPE, augmentation=augmentation), 8)
    assert [len(one.augmented) for one in found] == [3] * 8
    for one in found:
        (own,) = np.unique(decoded(one.original))
        assert split.labels[own // 20 - 1] == one.label
        for image in map(decoded, one.augmented):
            assert own in image and set(np.unique(image)) <= {own, *others}


def test_without_augmentation_a_sample_stands_alone():
    split = ArraySplit(kit.draw_images(3, 8), np.arange(3))
    recipe = dataclasses.replace(kit.RECIPE, augmentation=Augmentation())
    assert [one.augmented for one in samples(split, recipe, 8)] == [()] * 3


@pytest.mark.parametrize("name", ["resnet20", "resnet50-course"])
def test_a_network_costs_the_same_with_and_without_its_model(name, run):
    details = dataclasses.replace(
        run.read_details(), network=name, image_size=48, class_names=tuple("01234")
    )
    counted = kit.known(network_facts(details, None))
    architecture = dataclasses.replace(NETWORKS[name], classes=5, input_size=48)
    built = kit.known(network_facts(details, kit.build(architecture)))
    assert (counted.parameters, counted.multiply_adds) == (built.parameters, built.multiply_adds)
    assert built.layers[0].shape.split("\N{MULTIPLICATION SIGN}") == ["48", "48", "3"]
    assert sum(layer.parameters for layer in built.layers) > built.parameters  # statistics, too
    unknown = dataclasses.replace(details, network="mine")
    assert network_facts(unknown, None) is None


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (recipes.RECIPES["quick"], ["--recipe", "quick"]),
        (
            recipes.changed(recipes.RECIPES["finetune"], {"epochs": 7, "seed": 3}),
            ["--recipe", "finetune", "--epochs", "7", "--seed", "3"],
        ),
        (
            recipes.changed(recipes.RECIPES["quick"], {"augmentation": {"flip": True}}),
            ["--recipe", "my runs/one/recipe.toml"],
        ),
    ],
)
def test_the_command_of_a_run_states_its_recipe(recipe, words, run):
    details = dataclasses.replace(run.read_details(), data="my photos", recipe=recipe)
    command = kit.known(training_command(Run("my runs/one"), details))
    start = ["resnet-keras", "train", "tiny", "--data", "my photos"]
    assert shlex.split(command) == [*start, *words, "--run", "my runs/one"]
    of_arrays = dataclasses.replace(details, data=f"{Arrays.prefix}0123")
    assert training_command(run, of_arrays) is None


def test_the_report_has_words_for_all_pictures_and_headings_in_order(run):
    report.write_report(run)
    outline = Outline(run.report.read_text())
    assert outline.silent == [] and outline.levels[0] == 1
    assert all(
        after - before <= 1
        for before, after in zip(outline.levels, outline.levels[1:], strict=False)
    )
    for words in ("1,257", "180", "360", "95% confidence interval", "resnet-keras export"):
        assert words in outline.text
    assert "resnet-keras train tiny --data digits" in outline.text


def test_the_report_without_its_images_shows_all_the_rest(run):
    details = run.read_details()
    run.write_details(
        dataclasses.replace(details, data="/gone/photos", class_names=NAMES * 3 + ("z",))
    )
    evaluation = kit.known(read_evaluation(run))
    report.write_report(run)
    outline = Outline(run.report.read_text())
    assert "/gone/photos" in outline.text and f"{1 - evaluation.top1_error:.2%}" in outline.text
    assert all(name in outline.text for name in NAMES)
    assert "data:image/png" not in run.report.read_text().partition("<h2>Test results")[2]
