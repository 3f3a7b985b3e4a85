"""The view: every way from an image file to an answer shows the network the same pixels."""

import re
from dataclasses import replace
from typing import Any

import keras
import kit
import numpy as np
import pytest
import sample_images
import tensorflow as tf
from kit import TINY, draw_images, refusal
from PIL import Image
from sample_images import photographs

from resnet_keras.cli import resolve
from resnet_keras.data.images import decode
from resnet_keras.data.splits import EncodedSplit
from resnet_keras.evaluation.evaluate import classify, evaluation_data, probabilities_of
from resnet_keras.evaluation.explanation import explain
from resnet_keras.export import page, to_saved_model
from resnet_keras.export.card import ModelCard
from resnet_keras.export.folding import inference_model
from resnet_keras.networks.conversion import convert
from resnet_keras.networks.models import Classifier, build, view_of
from resnet_keras.view import View, tf_view

NAMES = tuple("abcde")


FILES = photographs()


def network(height, width, centre, channels=3, **head):
    """A classifier of random weights that knows its view; five classes unless `head` says so."""
    options = {"classes": 5, "class_names": NAMES, "centre": centre, **head}
    shape = (height, width, channels)
    model = kit.randomize(
        build(TINY, shape, Classifier(**options), "tiny", include_preprocessing=channels == 3)
    )
    # Answers that differ from image to image: logits of mean 0 and deviation 2.
    classifier = model.layers[-1]
    kernel, _ = classifier.get_weights()
    images = draw_images(64, (height, width))[..., :channels].astype("float32")
    logits = kit.answers(keras.Model(model.input, classifier.input), images) @ kernel
    gain = 2 / logits.std(0)
    classifier.set_weights([kernel * gain, -logits.mean(0) * gain])
    return model


# --- The value ---


@pytest.mark.parametrize(
    ("view", "size", "window"),
    [
        (View(224, 224, 224 / 256), (256, 256), (16, 16, 224, 224)),
        (View(224, 224, 0.9), (375, 500), (18, 81, 338, 338)),  # 337.5 is rounded up
        (View(10, 20), (30, 30), (7, 0, 15, 30)),
        (View(20, 10, 0.5), (30, 300), (7, 146, 15, 8)),  # 7.5 likewise
        (View(8, 8, 0.1), (3, 2), (1, 0, 1, 1)),
    ],
)
def test_the_window_is_the_centre_of_the_inputs_proportions(view, size, window):
    assert view.window(*size) == window
    assert tuple(tf_view.window(tf.constant(size), view).numpy()) == window


def test_windows_are_the_same_in_tensorflow_and_inside_the_image():
    random = np.random.default_rng(0)
    trace = tf.function(tf_view.window, input_signature=None)
    for view in (View(16, 16, 0.9), View(24, 16, 0.875), View(7, 5, 0.95)):
        for height, width in random.integers(1, 600, (40, 2)).tolist():
            top, left, rows, columns = window = view.window(height, width)
            assert min(top, left) >= 0 and top + rows <= height and left + columns <= width
            assert tuple(trace(tf.constant([height, width]), view).numpy()) == window


@pytest.mark.parametrize("name", FILES)
def test_tensorflow_decodes_as_pillow_does(name):
    np.testing.assert_array_equal(tf_view.decode(tf.constant(FILES[name])), decode(FILES[name]))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["JPEG", "PNG"])
def test_all_rotations_of_cameras(suffix, orientation):
    content = sample_images.rotated(suffix, orientation)
    np.testing.assert_array_equal(tf_view.decode(tf.constant(content)), decode(content))


def test_grey_is_pillows():
    image = draw_images(1, 40)[0]
    expected = np.asarray(Image.fromarray(image).convert("L"))[..., None]
    np.testing.assert_array_equal(tf_view.grey(tf.constant(image)), expected)
    assert View(40, 40, channels=1).show(image).shape == (40, 40, 1)


# --- Every entry point ---


@pytest.mark.parametrize(
    ("height", "width", "centre", "channels"),
    [(24, 16, 0.9, 3), (16, 16, 0.875, 1)],
)
def test_every_way_from_a_file_to_an_answer_is_one(height, width, centre, channels, tmp_path):
    model = network(height, width, centre, channels)
    view = view_of(model)
    assert view == View(height, width, centre, channels)
    images = np.stack([view.show(decode(content)) for content in FILES.values()])
    expected = probabilities_of(model, images)
    whole = np.stack([replace(view, centre=1.0).show(decode(one)) for one in FILES.values()])
    assert np.abs(probabilities_of(model, whole) - expected).max() > 0.02  # it matters

    contents = list(FILES.values())
    split = EncodedSplit(contents.__getitem__, np.zeros(len(contents), np.int64))
    evaluated = np.concatenate([np.asarray(batch[0]) for batch in evaluation_data(split, view)])
    assert np.abs(evaluated.astype(int) - images).max() <= 1  # Pillow interpolates in integers
    saved = tmp_path / "saved_model"
    card = ModelCard("tiny", "", NAMES, centre)
    to_saved_model.convert(inference_model(model), card, np.empty(0), saved)
    serve = tf.saved_model.load(saved).signatures["serve_bytes"]
    np.testing.assert_allclose(serve(images=tf.constant(contents))["scores"], expected, atol=0.02)
    for content, probabilities, image in zip(contents, expected, images, strict=True):
        predicted = dict(classify(model, decode(content), NAMES))
        found = [predicted[name] for name in NAMES]
        np.testing.assert_allclose(found, probabilities, atol=1e-5)
        if channels == 3:
            explained = explain(model, decode(content), NAMES)
            np.testing.assert_array_equal(explained.image, image)
            assert explained.probability == pytest.approx(probabilities.max(), abs=1e-5)


def test_the_samples_of_an_exports_page_show_the_view(tmp_path):
    """Their function `show`, run on files of every kind; all samples of a page have the same."""
    from test_exporting import some_manifest

    for size, centre in (((32, 48), 0.9), ((16, 16), 0.875), ((16, 16), 1.0)):
        manifest = some_manifest(image_size=size, centre=centre)
        page.write_page(tmp_path, manifest)
        text = (tmp_path / page.README).read_text()
        functions = set(re.findall(r"^def show\(path\):\n(?:    .*\n)+", text, re.MULTILINE))
        (function,) = functions
        namespace: dict[str, Any] = {"np": np}
        exec(f"from PIL import Image, ImageOps\n{function}", namespace)
        for name, content in FILES.items():
            (tmp_path / name).write_bytes(content)
            expected = View(*size, centre).show(decode(content))
            np.testing.assert_array_equal(namespace["show"](tmp_path / name), expected)


# --- The model's own ---


def test_a_model_keeps_its_view_in_its_file(tmp_path):
    network(16, 16, 0.9).save(tmp_path / "model.keras")
    assert view_of(keras.saving.load_model(tmp_path / "model.keras")) == View(16, 16, 0.9)


def test_a_model_of_any_size_has_no_view():
    assert "None" in refusal(view_of, build(TINY, (None, None, 3))).received


def test_logits_are_told_as_probabilities():
    logits = network(16, 16, 1.0, activation=None)
    image = draw_images(1, 16)
    expected = keras.ops.softmax(logits(image))
    np.testing.assert_allclose(probabilities_of(logits, image), expected, atol=1e-6)
    found = dict(classify(logits, image[0], NAMES))
    np.testing.assert_allclose([found[name] for name in NAMES], expected[0], atol=1e-6)


def test_one_sigmoid_is_folded_into_two_classes():
    single = network(16, 16, 1.0, classes=1, class_names=None, activation="sigmoid")
    images = draw_images(4, 16)
    second = kit.answers(single, images)[:, 0]
    found = kit.answers(inference_model(single), images)
    np.testing.assert_allclose(found, np.stack([1 - second, second], 1), atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "head", "include_preprocessing"),
    [
        ((48, 48, 3), {"activation": "sigmoid", "centre": 0.9}, True),
        ((24, 16, 3), {"activation": None}, True),
        ((16, 16, 1), {}, False),
    ],
)
def test_a_converted_model_answers_as_its_source(
    shape, head, include_preprocessing, tmp_path, tiny_network
):
    classifier = Classifier(5, class_names=NAMES, **head)
    model = kit.randomize(build(tiny_network, shape, classifier, "tiny", include_preprocessing))
    model.save(tmp_path / "source.keras")
    convert(tmp_path / "source.keras", "tiny", tmp_path / "converted.keras")
    found = keras.saving.load_model(tmp_path / "converted.keras")
    assert view_of(found) == view_of(model)
    assert found.layers[-1].class_names == NAMES
    images = draw_images(4, shape[:2])[..., : shape[2]]
    np.testing.assert_allclose(kit.answers(found, images), kit.answers(model, images), atol=1e-6)


# --- The order of the classes ---


@pytest.fixture
def dog_and_cat(tmp_path):
    """A model that knows its two classes in another order than folders are sorted in."""
    classifier = Classifier(2, class_names=("dog", "cat"))
    build(TINY, (16, 16, 3), classifier, "tiny").save(tmp_path / "model.keras")
    return tmp_path / "model.keras"


def folder_of(root, *names):
    """A folder of five images for each class, whose first pixel is the class's number."""
    for number, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for image in range(5):
            pixels = np.full((16, 16, 3), number, np.uint8)
            Image.fromarray(pixels).save(root / name / f"{image}.png")
    return str(root)


def test_labels_are_numbered_as_the_model_orders_its_classes(dog_and_cat, tmp_path):
    data = resolve.find(dog_and_cat, folder_of(tmp_path / "data", "cat", "dog")).data
    assert data.class_names == ("dog", "cat")
    for split in ("train", "validation", "test"):
        loaded = data.load(split)
        for index, label in enumerate(loaded.labels):
            assert loaded.image(index)[0, 0, 0] == 1 - label  # cats are 0 there, and 1 here


def test_data_of_other_classes_are_refused_by_name(dog_and_cat, tmp_path):
    error = refusal(resolve.find, dog_and_cat, folder_of(tmp_path / "data", "cat", "horse"))
    assert "dog" in error.received and "horse" in error.received
    assert "dog, cat" in error.accepted
