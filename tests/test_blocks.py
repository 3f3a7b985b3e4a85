"""The residual units against a few lines of NumPy, and against what the course checks."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from kit import refusal

from resnet_keras.architectures import BOTTLENECK, COURSE_DEFAULTS, LayerDefaults, ResidualUnit
from resnet_keras.networks.blocks import convolutional_block, identity_block, residual_unit

PAPER_DEFAULTS = LayerDefaults()


def block_with(shortcut):
    """A block with the course's arguments, and a shortcut for which the course has none."""

    def block(x, f, filters, stage, block, s=1, dilations=()):
        branch = replace(BOTTLENECK, kernel_size=f).branch(x.shape[-1], filters, s, dilations)
        return residual_unit(x, ResidualUnit(stage, block, branch, shortcut), COURSE_DEFAULTS)

    return block


zero_padded_block = block_with("zero-padded")
plain_block = block_with("none")


def convolve(x, layer, stride, padding):
    """A convolution with `padding` pixels (before, after) on both axes, written out."""
    kernel, bias = layer.get_weights() if layer.use_bias else (layer.get_weights()[0], 0)
    x = np.pad(x.astype("float64"), ((0, 0), padding, padding, (0, 0)))
    size = kernel.shape[0]
    rows = range(0, x.shape[1] - size + 1, stride)
    columns = range(0, x.shape[2] - size + 1, stride)
    patches = np.array(
        [[x[:, row : row + size, column : column + size] for column in columns] for row in rows]
    )
    return np.einsum("hwnijc,ijcf->nhwf", patches, kernel) + bias


def normalize(x, layer):
    """Batch normalisation by the moving statistics."""
    gamma, beta, mean, variance = layer.get_weights()
    return (x - mean) / np.sqrt(variance + layer.epsilon) * gamma + beta


def relu(x):
    return np.maximum(x, 0)


def conv_bn(model, name, x, stride=1, padding=(0, 0)):
    return normalize(
        convolve(x, model.get_layer(f"res{name}"), stride, padding), model.get_layer(f"bn{name}")
    )


def model_of(block, input_shape, *args, **kwargs):
    """A model of one block whose weights and BN statistics are all random."""
    inputs = keras.Input(input_shape)
    model = keras.Model(inputs, block(inputs, *args, **kwargs))
    rng = np.random.default_rng(1)
    for layer in model.layers:
        layer.set_weights([rng.uniform(0.2, 1, weight.shape) for weight in layer.weights])
        if isinstance(layer, keras.layers.Conv2D):
            layer.set_weights([rng.normal(0, 0.3, weight.shape) for weight in layer.weights])
    return model


def images(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def test_identity_block_of_the_course_keeps_the_shape():
    x = keras.Input((4, 4, 3))
    y = identity_block(x, 2, [2, 4, 3], 1, "a")
    assert y.shape == (None, 4, 4, 3)


def test_convolutional_block_of_the_course_halves_the_shape():
    x = keras.Input((4, 4, 3))
    assert convolutional_block(x, 2, [2, 4, 6], 1, "a", 2).shape == (None, 2, 2, 6)
    # The course's default stride.
    assert convolutional_block(x, 2, [2, 4, 6], 1, "b").shape == (None, 2, 2, 6)


def test_identity_block_computes_relu_of_f_plus_x():
    model = model_of(identity_block, (5, 4, 3), 3, [2, 4, 3], 2, "b")
    x = images(2, 5, 4, 3)
    branch = relu(conv_bn(model, "2b_branch2a", x))
    branch = relu(conv_bn(model, "2b_branch2b", branch, padding=(1, 1)))
    branch = conv_bn(model, "2b_branch2c", branch)
    np.testing.assert_allclose(model(x), relu(branch + x), atol=1e-5)


def test_identity_block_with_the_even_kernel_of_the_course():
    model = model_of(identity_block, (4, 4, 3), 2, [2, 4, 3], 2, "b")
    x = images(2, 4, 4, 3)
    branch = relu(conv_bn(model, "2b_branch2a", x))
    # An even kernel cannot be centred: "same" puts the odd pixel after.
    branch = relu(conv_bn(model, "2b_branch2b", branch, padding=(0, 1)))
    branch = conv_bn(model, "2b_branch2c", branch)
    np.testing.assert_allclose(model(x), relu(branch + x), atol=1e-5)


def test_basic_identity_block_computes_relu_of_f_plus_x():
    model = model_of(identity_block, (5, 4, 3), 3, [4, 3], 2, "b", defaults=PAPER_DEFAULTS)
    x = images(2, 5, 4, 3)
    branch = relu(conv_bn(model, "2b_branch2a", x, padding=(1, 1)))
    branch = conv_bn(model, "2b_branch2b", branch, padding=(1, 1))
    np.testing.assert_allclose(model(x), relu(branch + x), atol=1e-5)


@pytest.mark.parametrize("stride_at", [0, 1])
def test_convolutional_block_computes_relu_of_f_plus_projection(stride_at):
    unit = replace(BOTTLENECK, stride_at=stride_at)
    model = model_of(convolutional_block, (7, 5, 3), 3, [2, 4, 6], 3, "a", s=2, unit=unit)
    x = images(2, 7, 5, 3)
    strides = (2, 1) if stride_at == 0 else (1, 2)
    branch = relu(conv_bn(model, "3a_branch2a", x, strides[0]))
    branch = relu(conv_bn(model, "3a_branch2b", branch, strides[1], padding=(1, 1)))
    branch = conv_bn(model, "3a_branch2c", branch)
    projection = conv_bn(model, "3a_branch1", x, 2)
    assert projection.shape == (2, 4, 3, 6)
    np.testing.assert_allclose(model(x), relu(branch + projection), atol=1e-5)


def test_basic_convolutional_block_computes_relu_of_f_plus_projection():
    model = model_of(convolutional_block, (7, 5, 3), 3, [4, 6], 3, "a", defaults=PAPER_DEFAULTS)
    x = images(2, 7, 5, 3)
    branch = relu(conv_bn(model, "3a_branch2a", x, 2, padding=(1, 1)))
    branch = conv_bn(model, "3a_branch2b", branch, padding=(1, 1))
    np.testing.assert_allclose(
        model(x), relu(branch + conv_bn(model, "3a_branch1", x, 2)), atol=1e-5
    )


@pytest.mark.parametrize(("side", "stride"), [(6, 2), (7, 2), (5, 1)])
def test_zero_padded_block_adds_every_second_pixel_and_zero_channels(side, stride):
    model = model_of(zero_padded_block, (side, side, 3), 3, [4, 5], 3, "a", stride)
    x = images(2, side, side, 3)
    branch = relu(conv_bn(model, "3a_branch2a", x, stride, padding=(1, 1)))
    branch = conv_bn(model, "3a_branch2b", branch, padding=(1, 1))
    branch[..., :3] += x[:, ::stride, ::stride]
    np.testing.assert_allclose(model(x), relu(branch), atol=1e-5)


def test_plain_block_adds_nothing():
    model = model_of(plain_block, (7, 7, 3), 3, [4, 5], 3, "a", 2)
    x = images(2, 7, 7, 3)
    branch = relu(conv_bn(model, "3a_branch2a", x, 2, padding=(1, 1)))
    branch = relu(conv_bn(model, "3a_branch2b", branch, padding=(1, 1)))
    np.testing.assert_allclose(model(x), branch, atol=1e-5)


@pytest.mark.parametrize("block", [identity_block, convolutional_block, plain_block])
def test_dilated_blocks_do_on_every_grid_what_plain_ones_do(block):
    stride = {} if block is identity_block else {"s": 1}
    x = images(2, 7, 5, 3)
    plain = model_of(block, (None, None, 3), 3, [2, 4, 3], 3, "a", **stride)
    dilated = model_of(block, (7, 5, 3), 3, [2, 4, 3], 3, "a", dilations=(1, 2, 2), **stride)
    assert dilated.get_layer("res3a_branch2b").dilation_rate == (2, 2)
    for row in (0, 1):
        for column in (0, 1):
            expected = plain(x[:, row::2, column::2])
            found = dilated(x)[:, row::2, column::2]
            np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("dilations", [(2,), (1, 2), (1, 2, 2, 2)])
def test_blocks_refuse_dilations_that_are_not_one_each(dilations):
    x = keras.Input((4, 4, 3))
    error = refusal(identity_block, x, 3, [2, 4, 3], 2, "b", dilations=dilations)
    assert str(list(dilations)) in error.received
    assert "3 dilations" in error.accepted


@pytest.mark.parametrize("filters", [[4, 3], [2, 4, 3]])
def test_zero_gamma_makes_a_unit_the_identity(filters):
    x = keras.Input((4, 4, 3))
    defaults = LayerDefaults(zero_init_last_gamma=True)
    model = keras.Model(x, identity_block(x, 3, filters, 2, "b", defaults=defaults))
    pixels = images(2, 4, 4, 3)
    np.testing.assert_array_equal(model(pixels), relu(pixels))
    # While training too: the batch's statistics cannot move what gamma erases.
    np.testing.assert_array_equal(model(pixels, training=True), relu(pixels))


def test_zero_gamma_keeps_the_projection():
    x = keras.Input((4, 4, 3))
    defaults = LayerDefaults(zero_init_last_gamma=True)
    model = keras.Model(x, convolutional_block(x, 3, [4, 6], 3, "a", defaults=defaults))
    gammas = {
        layer.name: float(np.max(layer.get_weights()[0]))
        for layer in model.layers
        if layer.name.startswith("bn")
    }
    assert gammas == {"bn3a_branch2a": 1, "bn3a_branch2b": 0, "bn3a_branch1": 1}


def test_layer_names_are_the_course_s():
    x = keras.Input((4, 4, 3))
    model = keras.Model(x, convolutional_block(x, 3, [2, 4, 6], 2, "a", 1))
    names = {layer.name for layer in model.layers if layer.weights}
    assert names == {
        f"{kind}2a_branch{branch}" for kind in ("res", "bn") for branch in ("2a", "2b", "2c", "1")
    }


def test_style_reaches_every_layer():
    x = keras.Input((4, 4, 3))
    for block, defaults in (("a", COURSE_DEFAULTS), ("b", PAPER_DEFAULTS)):
        model = keras.Model(x, convolutional_block(x, 3, [2, 4, 6], 2, block, defaults=defaults))
        convolutions = [la for la in model.layers if isinstance(la, keras.layers.Conv2D)]
        norms = [la for la in model.layers if isinstance(la, keras.layers.BatchNormalization)]
        assert len(convolutions) == len(norms) == 4
        assert {layer.use_bias for layer in convolutions} == {defaults.use_bias}
        assert {(la.epsilon, la.momentum) for la in norms} == {
            (defaults.bn_epsilon, defaults.bn_momentum)
        }


def test_the_course_s_style_is_the_default():
    x = keras.Input((4, 4, 3))
    model = keras.Model(x, identity_block(x, 3, [2, 4, 3], 2, "b"))
    assert model.get_layer("res2b_branch2a").use_bias
    assert model.get_layer("bn2b_branch2a").epsilon == 1e-3


@pytest.mark.parametrize("block", [convolutional_block, zero_padded_block, plain_block])
def test_strided_padding_does_not_prefer_a_side(block):
    """On an odd-sized map the flipped image under flipped kernels gives the flipped map.

    Keras's "same" would pass this at odd sizes and fail at even ones; the explicit padding layers
    are therefore looked at as well.
    """
    model = model_of(block, (9, 9, 3), 3, [4, 6], 3, "a", 2)
    x = images(2, 9, 9, 3)
    expected = np.asarray(model(x))[:, ::-1, ::-1]
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            kernel, *bias = layer.get_weights()
            layer.set_weights([kernel[::-1, ::-1], *bias])
    np.testing.assert_allclose(model(x[:, ::-1, ::-1]), expected, atol=1e-5)
    assert model.get_layer("res3a_branch2a_pad").padding == ((1, 1), (1, 1))
    assert model.get_layer("res3a_branch2a").padding == "valid"


def test_identity_block_refuses_another_number_of_channels():
    x = keras.Input((4, 4, 5))
    error = refusal(identity_block, x, 3, [2, 4, 3], 2, "b")
    assert "5 channels" in error.received
    assert "3 channels" in error.accepted and "convolutional_block" in error.accepted


@pytest.mark.parametrize("filters", [[3, 3, 3, 3], [3, 3, 3, 3, 3]])
@pytest.mark.parametrize("block", [identity_block, convolutional_block])
def test_blocks_refuse_more_than_three_filters(block, filters):
    error = refusal(block, keras.Input((4, 4, 3)), 3, filters, 2, "b")
    assert str(len(filters)) in error.received


@pytest.mark.parametrize(("filters", "stride_at"), [([2, 4, 6], 1), ([4, 6], 0), ([4, 6], 1)])
def test_an_even_kernel_may_carry_the_stride(filters, stride_at):
    x = keras.Input((5, 4, 3))
    unit = replace(BOTTLENECK, stride_at=stride_at)
    block = convolutional_block(x, 2, filters, 3, "a", s=2, unit=unit)
    assert block.shape == (None, 3, 2, 6)
