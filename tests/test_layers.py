"""The zero-padded shortcut, and a file with all layers of the family."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_array_equal

from resnet_keras.architectures import Convolution, LayerDefaults
from resnet_keras.networks.layers import ZeroPaddedShortcut, convolution, normalization


def pixels(*shape):
    return np.random.default_rng(0).normal(2, 3, shape).astype("float32")


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_a_saved_model_of_all_layers_loads(tmp_path, policy):
    keras.config.set_dtype_policy(policy)
    inputs = keras.Input((6, 6, 3))
    x = convolution(inputs, Convolution(3, 3, 4, stride=2), "res2a_branch2a", LayerDefaults())
    x = normalization(x, "bn2a_branch2a", LayerDefaults())
    model = keras.Model(inputs, ZeroPaddedShortcut(6, 2)(x))
    x = pixels(3, 6, 6, 3)
    model(x, training=True)
    model.save(tmp_path / "net.keras")
    keras.config.set_dtype_policy("float32")
    loaded = keras.saving.load_model(tmp_path / "net.keras", safe_mode=True)
    assert [type(layer) for layer in loaded.layers] == [type(layer) for layer in model.layers]
    assert loaded.layers[-2].dtype_policy.name == policy
    assert_array_equal(tf.cast(loaded(x), "float32"), tf.cast(model(x), "float32"))


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [(6, 6), (5, 7), (1, 2)])
@pytest.mark.parametrize("filters", [3, 4, 8])
def test_zero_padded_shortcut(filters, size, stride):
    x = pixels(2, *size, 3)
    height, width = (-(-side // stride) for side in size)
    expected = np.zeros((2, height, width, filters), "float32")
    for row in range(height):
        for column in range(width):
            expected[:, row, column, :3] = x[:, row * stride, column * stride]
    layer = ZeroPaddedShortcut(filters, stride)
    assert_array_equal(layer(x), expected)
    assert layer.weights == []


def test_zero_padded_shortcut_defaults_to_stride_1():
    assert ZeroPaddedShortcut(5)(pixels(1, 4, 3, 2)).shape == (1, 4, 3, 5)


@pytest.mark.parametrize("stride", [1, 2])
def test_zero_padded_shortcut_of_unknown_size(stride):
    inputs = keras.Input((None, None, 3))
    outputs = ZeroPaddedShortcut(5, stride)(inputs)
    assert outputs.shape == (None, None, None, 5)
    model = keras.Model(inputs, outputs)
    for size in ((5, 7), (4, 4)):
        x = pixels(2, *size, 3)
        assert_array_equal(model(x), ZeroPaddedShortcut(5, stride)(x))
    traced = tf.function(model).get_concrete_function(tf.TensorSpec((None, None, None, 3)))
    assert traced.output_shapes == (None, None, None, 5)
    assert_array_equal(traced(tf.constant(x)), model(x))


def test_zero_padded_shortcut_passes_gradients():
    x = tf.constant(pixels(1, 3, 3, 2))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = ZeroPaddedShortcut(4, 2)(x)
    expected = np.zeros((1, 3, 3, 2))
    expected[:, ::2, ::2] = 1
    assert_array_equal(tape.gradient(y, x), expected)


@pytest.mark.parametrize("filters", [1, 2])
def test_zero_padded_shortcut_cannot_drop_channels(filters):
    with pytest.raises(ValueError, match=rf"Received: 3 channels to become {filters}"):
        ZeroPaddedShortcut(filters)(pixels(1, 4, 4, 3))
    with pytest.raises(ValueError, match="only add channels"):
        ZeroPaddedShortcut(filters)(keras.Input((4, 4, 3)))


def test_zero_padded_shortcut_needs_known_channels():
    with pytest.raises(ValueError, match="Received: None channels"):
        ZeroPaddedShortcut(8)(keras.Input((4, 4, None)))


def test_zero_padded_shortcut_config():
    layer = ZeroPaddedShortcut(8, 2, name="res3a_branch1", dtype="mixed_bfloat16")
    serialized = keras.saving.serialize_keras_object(layer)
    assert serialized["registered_name"] == "resnet_keras>ZeroPaddedShortcut"
    again = keras.saving.deserialize_keras_object(serialized, safe_mode=True)
    assert type(again) is ZeroPaddedShortcut
    assert (again.filters, again.stride, again.name) == (8, 2, "res3a_branch1")
    assert again.get_config() == layer.get_config()
    assert again.compute_dtype == "bfloat16"


@pytest.mark.parametrize("half", ["bfloat16", "float16"])
def test_zero_padded_shortcut_keeps_half_precision(half):
    keras.config.set_dtype_policy(f"mixed_{half}")
    y = ZeroPaddedShortcut(5, 2)(tf.cast(pixels(1, 4, 4, 3), half))
    assert keras.backend.standardize_dtype(y.dtype) == half
    symbolic = ZeroPaddedShortcut(5, 2)(keras.Input((4, 4, 3), dtype=half))
    assert symbolic.dtype == half
