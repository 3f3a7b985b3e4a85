"""Ten crops and several scales, against the obvious way: loops, one image at a time."""

import io
from dataclasses import replace

import keras
import kit
import numpy as np
import pytest
from kit import TINY_FAMILY, draw_images, trained
from PIL import Image

from resnet_keras.architectures import NETWORKS, Architecture
from resnet_keras.data.splits import ArraySplit, EncodedSplit
from resnet_keras.evaluation import views
from resnet_keras.evaluation.views import multi_scale, ten_crop
from resnet_keras.networks.feature_maps import fully_convolutional
from resnet_keras.networks.models import Features, build, dtype_policy
from resnet_keras.networks.recomputation import recompute

# Wide, twice, tall and larger than all scales, square and smaller than any crop: (height, width).
SIZES = ((40, 61), (70, 48), (9, 9), (40, 61))
ALIKE = ((40, 61),) * 4
SCALES = (32, 45)


def photographs(sizes=SIZES):
    """Images of many sizes, as files."""
    files = []
    for number, size in enumerate(sizes):
        (pixels,) = draw_images(1, size, seed=number)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        files.append(file.getvalue())
    return EncodedSplit(files.__getitem__, np.arange(len(sizes)) % 5)


def with_shorter_side(image, side):
    height, width = image.shape[:2]
    if height < width:
        height, width = side, round(width * side / height)
    else:
        height, width = round(height * side / width), side
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    return np.array(resized)


def slow_ten_crop(model, split, size, side):
    answers = []
    for index in range(len(split)):
        image = with_shorter_side(split.image(index), side)
        height, width, _ = image.shape
        crops = [
            image[:size, :size],
            image[:size, width - size :],
            image[height - size :, :size],
            image[height - size :, width - size :],
            image[(height - size) // 2 :, (width - size) // 2 :][:size, :size],
        ]
        ten = np.array([shown for crop in crops for shown in (crop, np.fliplr(crop))])
        assert ten.shape == (10, size, size, 3)
        answers.append(kit.answers(model, ten).mean(0))
    return np.array(answers)


def slow_multi_scale(model, architecture, split, scales):
    """Class scores at every place of the last map, averaged; softmax; averaged over the views."""
    maps = build(architecture, (None, None, 3), Features())
    for layer in maps.layers:
        layer.set_weights(model.get_layer(layer.name).get_weights() if layer.weights else [])
    kernel, bias = model.layers[-1].get_weights()
    answers = []
    for index in range(len(split)):
        total = np.zeros(model.output_shape[1])
        for scale in scales:
            image = with_shorter_side(split.image(index), scale)
            for last in kit.answers(maps, np.array([image, np.fliplr(image)])):
                scores = np.zeros(len(bias))
                for row in last:
                    for place in row:
                        scores += place.astype(float) @ kernel + bias
                scores /= last.shape[0] * last.shape[1]
                powers = np.exp(scores - scores.max())
                total += powers / powers.sum()
        answers.append(total / (2 * len(scales)))
    return np.array(answers)


def assert_is_the_average_over_scales(architecture, split, scales):
    model = trained(architecture)
    found = multi_scale(model, architecture, split, scales)
    assert found.shape == (len(split), 5) and found.dtype == np.float32
    expected = slow_multi_scale(model, architecture, split, scales)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.ptp(expected, axis=0).max() > 0.1  # images are told apart


@pytest.mark.parametrize(
    "name", ["resnet20", pytest.param("resnext50-32x4d", marks=pytest.mark.slow)]
)
def test_ten_crop_is_the_average_of_ten(name):
    model = trained(TINY_FAMILY[name])
    split = photographs()
    found = ten_crop(model, split)
    assert found.shape == (len(SIZES), 5) and found.dtype == np.float32
    expected = slow_ten_crop(model, split, size=32, side=37)  # 256 / 224 of 32 is 36.6
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.ptp(expected, axis=0).max() > 0.1


def test_ten_crop_of_images_in_memory():
    model = trained(TINY_FAMILY["resnet20"])
    images = draw_images(70)[:, :, :24]  # more than are loaded at once
    split = ArraySplit(images, np.zeros(70, int))
    expected = slow_ten_crop(model, split.take(np.array([0, 69])), size=32, side=37)
    np.testing.assert_allclose(ten_crop(model, split)[[0, 69]], expected, atol=1e-5)


@pytest.mark.parametrize(
    "name",
    [
        "resnet20",  # shortcuts A
        "resnet18",  # projections and a pooled stem
        *(
            pytest.param(name, marks=pytest.mark.slow)
            # Full pre-activation, groups, dropped units.
            for name in ("preresnet110", "resnext29-8x64d", "stochastic-depth")
        ),
    ],
)
def test_multi_scale_is_the_average_over_places_flips_and_scales(name):
    assert_is_the_average_over_scales(TINY_FAMILY[name], photographs(), SCALES)


def test_little_goes_through_the_network_at_once(monkeypatch):
    """Where memory is short of a single image even, the answers are the same."""
    architecture = TINY_FAMILY["resnet20"]
    model = trained(architecture)
    whole = multi_scale(model, architecture, photographs(ALIKE), SCALES)
    seen = []

    def predict(self, images):
        seen.append(len(images))
        return keras.Model.predict_on_batch(self, images)

    monkeypatch.setattr(views, "PIXELS_AT_ONCE", 1)
    monkeypatch.setattr(views, "IMAGES_AT_ONCE", 1)
    twin = fully_convolutional(model, architecture)
    monkeypatch.setattr(type(twin), "predict_on_batch", predict, raising=False)
    monkeypatch.setattr(views, "fully_convolutional", lambda *_: twin)
    found = multi_scale(model, architecture, photographs(ALIKE), SCALES)
    np.testing.assert_allclose(found, whole, atol=1e-6)
    assert set(seen) == {2}  # an image and its mirror image


def test_many_sizes_take_few_traces(monkeypatch):
    """TensorFlow opens one dimension after another: batch, height and width."""
    architecture = TINY_FAMILY["resnet20"]
    model = trained(architecture)
    twin = fully_convolutional(model, architecture)
    monkeypatch.setattr(views, "fully_convolutional", lambda *_: twin)
    sizes = [(32 + number, 40 + 2 * number) for number in range(10)]
    multi_scale(model, architecture, photographs(sizes), (32, 35))
    assert twin.predict_function.experimental_get_tracing_count() <= 4


# The course's net of this size takes no other, see below.
@pytest.mark.parametrize(
    "name", [name for name in kit.family() if name.values[0] != "resnet50-course"]
)
def test_the_twin_of_any_size_is_the_same_network(name):
    architecture = TINY_FAMILY[name]
    model = trained(architecture)
    twin = fully_convolutional(model, architecture)
    images = draw_images(4)
    assert twin.input_shape == (None, None, None, 3)
    expected = kit.answers(model, images)
    np.testing.assert_allclose(kit.answers(twin, images), expected, atol=1e-6)


def course(input_size) -> Architecture:
    """A tiny course's net; the last map has 2x2 places at 20 pixels, and 4x4 at 36."""
    return replace(TINY_FAMILY["resnet50-course"], input_size=input_size)


@pytest.mark.slow
def test_the_courses_net_takes_any_size_where_its_window_is_the_whole_map():
    assert NETWORKS["resnet50-course"].map_size(64) == 2 == course(20).map_size(20)
    assert_is_the_average_over_scales(course(20), photographs(ALIKE), (33,))


def test_the_courses_net_of_a_larger_size_takes_no_other():
    architecture = course(36)
    model = build(architecture)
    error = kit.refusal(multi_scale, model, architecture, photographs(), SCALES)
    assert model.name in error.received and "36x36" in error.received


def test_the_twin_has_the_networks_precision_and_activation():
    architecture = TINY_FAMILY["resnet20"]
    with dtype_policy("mixed_bfloat16"):
        model = build(architecture)
    model.layers[-1].activation = keras.activations.sigmoid
    twin = fully_convolutional(recompute(model), architecture)
    assert keras.config.dtype_policy().name == "float32"
    policies = {layer.name: layer.dtype_policy.name for layer in model.layers if layer.weights}
    assert {name: twin.get_layer(name).dtype_policy.name for name in policies} == policies
    assert "mixed_bfloat16" in policies.values()
    assert twin.layers[-1].activation is keras.activations.sigmoid


def test_a_scale_too_small_for_the_network():
    architecture = TINY_FAMILY["resnet18"]
    error = kit.refusal(multi_scale, build(architecture), architecture, photographs(), (3, 64))
    assert "3" in error.received.split()
