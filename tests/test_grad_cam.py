"""Grad-CAM: where the answer is known, and against the formula written out."""

import keras
import kit
import numpy as np
import pytest
from kit import TINY, TINY_FAMILY, draw_images, trained

from resnet_keras.evaluation.grad_cam import explained_stages, grad_cam
from resnet_keras.networks.feature_maps import features
from resnet_keras.networks.models import Classifier, Features, build, dtype_policy

SIZE, PATCH = 32, 8
RED, GREEN, BLUE = np.eye(3) * 255


def grey_noise(count, generator):
    grey = generator.integers(0, 256, (count, SIZE, SIZE, 1))
    return np.repeat(grey, 3, axis=-1).astype("uint8")


def plant(image, top, left, colour):
    image[top : top + PATCH, left : left + PATCH] = colour


def share_near(heat, top, left, margin):
    """How much of the heat lies in the patch, or not further than `margin` pixels from it."""
    side = SIZE // len(heat)
    pixels = np.kron(heat, np.ones((side, side)))
    rows = slice(max(top - margin, 0), top + PATCH + margin)
    columns = slice(max(left - margin, 0), left + PATCH + margin)
    return pixels[rows, columns].sum() / pixels.sum()


def colour_detector():
    """A network whose class is, by its weights, the colour of what is not grey.

    The stem gives how much more of a colour a pixel has than of the others, and nothing of a grey
    one. The branches add nothing, and so every unit hands on what it gets.
    """
    model = build(TINY, (SIZE, SIZE, 3), Classifier(3))
    for layer in model.layers:
        if layer.name.endswith("branch2b") and layer.name.startswith("bn"):
            layer.gamma.assign(np.zeros(layer.gamma.shape))
    kernel = np.zeros((3, 3, 3, 4))
    kernel[1, 1, :, :3] = 1.5 * np.eye(3) - 0.5
    model.get_layer("conv1").set_weights([kernel])
    model.get_layer("bn_conv1").set_weights([np.ones(4), -np.ones(4), np.zeros(4), np.ones(4)])
    scores = np.zeros((16, 3))
    scores[:3] = 10 * np.eye(3)
    model.layers[-1].set_weights([scores, np.zeros(3)])
    return model


@pytest.mark.parametrize("stage", ["C2", "C3", "C4"])
def test_all_heat_is_on_the_patch_that_alone_decides(stage):
    model = colour_detector()
    image = grey_noise(1, np.random.default_rng(0))
    plant(image[0], 4, 4, RED)
    plant(image[0], 20, 12, GREEN)
    for label, place in ((0, (4, 4)), (1, (20, 12))):
        (heat,) = grad_cam(model, image, [label], stage)
        assert heat.max() == 1 and share_near(heat, *place, margin=0) == 1
    assert not grad_cam(model, image, [2], stage).any()  # there is no blue


@pytest.fixture(scope="module")
def of_patches():
    """A network that has learned the colour of a patch somewhere in noise, or that there is none.

    Without images that have none, one class could be known by what is missing.
    """
    keras.utils.set_random_seed(0)
    generator = np.random.default_rng(0)
    images, labels = grey_noise(600, generator), np.arange(600) % 4
    places = generator.integers(0, SIZE - PATCH + 1, (600, 2))
    for image, label, (top, left) in zip(images, labels, places, strict=True):
        if label < 3:
            plant(image, top, left, (RED, GREEN, BLUE)[label])
    model = build(TINY, (SIZE, SIZE, 3), Classifier(4))
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(images[100:], labels[100:], batch_size=25, epochs=3, verbose=0)
    return model, images[:100], labels[:100], places[:100]


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["C3", "C4"])
def test_a_trained_network_looks_at_the_patch(of_patches, stage):
    model, images, labels, places = of_patches
    assert np.mean(kit.answers(model, images).argmax(1) == labels) > 0.95
    has_patch = labels < 3
    heats = grad_cam(model, images[has_patch], stage=stage)
    places = places[has_patch]
    shares = [share_near(*pair, margin=4) for pair in zip(heats, *places.T, strict=True)]
    assert min(shares) > 0.5 and np.median(shares) > 0.8


@pytest.mark.parametrize(
    "name",
    [
        # A network of each kind of ordering, stem and head.
        *("resnet50-course", "preresnet110", "plain20"),
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("resnext50-32x4d", "option-b")),
    ],
)
def test_heat_is_the_formula_s(name):
    """Equations 1 and 2 in loops, with gradients that one tape takes of the logits themselves."""
    import tensorflow as tf

    model = trained(TINY_FAMILY[name])
    classifier = model.layers[-1]
    logits = keras.layers.Dense(classifier.units, activation=None)
    inside = keras.Model(model.input, [features(model).output, logits(classifier.input)])
    logits.set_weights(classifier.get_weights())
    images, classes = draw_images(3), [4, 0, 1]
    pixels = tf.constant(images, "float32")
    for stage in explained_stages(model):
        found = grad_cam(model, images, classes, stage, batch_size=2)
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(pixels)
            maps, scores = inside(pixels)
            asked = [scores[image, label] for image, label in enumerate(classes)]
        for image in range(3):
            gradient = tape.gradient(asked[image], maps[stage])[image].numpy()
            heat = np.zeros(gradient.shape[:2])
            for channel in range(gradient.shape[2]):
                weight = gradient[:, :, channel].mean()
                heat += weight * maps[stage][image, :, :, channel].numpy()
            heat = np.maximum(heat, 0)
            np.testing.assert_allclose(found[image], heat / (heat.max() or 1), atol=1e-4)


def test_at_the_last_stage_it_is_the_class_activation_map():
    """Selvaraju et al. 2017, section 3.1: where an average and a classifier follow."""
    model, images, classes = trained(TINY_FAMILY["resnet18"]), draw_images(4), [4, 3, 2, 1]
    maps = keras.ops.convert_to_numpy(features(model)(images)["C3"])
    kernel = model.layers[-1].get_weights()[0]
    expected = np.maximum(np.einsum("nhwc,cn->nhw", maps, kernel[:, classes]), 0)
    highest = expected.max((1, 2), keepdims=True)
    assert highest.max() > 0
    expected /= np.maximum(highest, 1e-9)
    np.testing.assert_allclose(grad_cam(model, images, classes), expected, atol=1e-5)


def test_a_network_that_is_sure_has_the_same_heat():
    model = trained(TINY_FAMILY["resnet18"])
    images = draw_images(4)
    before = grad_cam(model, images, stage="C2")
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([1000 * kernel, 1000 * bias])
    assert kit.answers(model, images).max(1).min() == 1  # a softmax without a gradient
    np.testing.assert_allclose(grad_cam(model, images, stage="C2"), before, atol=1e-5)


@pytest.mark.parametrize(
    "policy", ["mixed_bfloat16", pytest.param("mixed_float16", marks=pytest.mark.slow)]
)
def test_the_arithmetic_is_float32_under_any_policy(policy):
    architecture = TINY_FAMILY["preresnet110"]
    model = trained(architecture)
    with dtype_policy(policy):
        mixed = build(architecture)
    mixed.set_weights(model.get_weights())
    asked = draw_images(3), [0, 1, 2], "C2"
    np.testing.assert_allclose(grad_cam(mixed, *asked), grad_cam(model, *asked), atol=1e-5)


def test_nothing_in_the_model_changes():
    model = trained(TINY_FAMILY["stochastic-depth"])
    before = [layer.get_config() for layer in model.layers], model.get_weights()
    grad_cam(model, draw_images(2))
    assert [layer.get_config() for layer in model.layers] == before[0]
    for now, then in zip(model.get_weights(), before[1], strict=True):
        np.testing.assert_array_equal(now, then)


def test_bad_arguments_are_refused():
    model, images = build(TINY_FAMILY["resnet18"]), draw_images(2)
    error = kit.refusal(grad_cam, model, images, stage="C5")
    assert error.received == "'C5'" and error.accepted == "C2, C3"
    for classes in ([0], [0, 5], [0, -1], [0.0, 1.0]):
        error = kit.refusal(grad_cam, model, images, classes)
        assert error.received == str(classes)
        assert {"2", "0", "4"} <= set(error.accepted.split())  # two of them, from 0 to 4


def test_what_has_no_stages_or_no_classes_is_not_explained():
    trunk = build(TINY, (SIZE, SIZE, 3), Features("avg"), name="trunk")
    foreign = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Dense(2)], name="foreign")
    for model in (trunk, foreign):
        assert explained_stages(model) == ()
        error = kit.refusal(grad_cam, model, draw_images(1, model.input_shape[1]))
        assert model.name in error.received


ON_JAX = """
import sys
from pathlib import Path
import keras
import numpy as np
from resnet_keras import load_model
from resnet_keras.evaluation.grad_cam import grad_cam

assert keras.backend.backend() == "jax"
folder = Path(sys.argv[1])
images = np.load(folder / "images.npy")
np.save(folder / "heat.npy", grad_cam(load_model(folder / "model.keras"), images, [0, 1, 2], "C2"))
"""


@pytest.mark.slow
def test_heat_is_the_same_on_jax(tmp_path):
    model, images = trained(TINY_FAMILY["preresnet110"]), draw_images(3)
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", images)
    kit.run_python(ON_JAX, tmp_path, KERAS_BACKEND="jax")
    expected = grad_cam(model, images, [0, 1, 2], "C2")
    np.testing.assert_allclose(np.load(tmp_path / "heat.npy"), expected, atol=1e-4)
