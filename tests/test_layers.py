"""Our BatchNormalization against Keras's, the zero-padded shortcut, convolutions."""

import copy

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose, assert_array_equal

from resnet_keras import layers
from resnet_keras.architectures import Style
from resnet_keras.layers import (
    BatchNormalization,
    ZeroPaddedShortcut,
    convolution,
    normalization,
)

Stock = keras.layers.BatchNormalization
FUSED = "FusedBatchNormV3"
STYLE = Style()


def pixels(*shape, mean=2.0, std=3.0, seed=0):
    return np.random.default_rng(seed).normal(mean, std, shape).astype("float32")


def pair(shape=(None, None, None, 3), seed=1, **arguments):
    """Our layer and Keras's, with the same random weights."""
    layers = BatchNormalization(**arguments), Stock(**arguments)
    rng = np.random.default_rng(seed)
    for layer in layers:
        layer.build(shape)
    weights = [rng.uniform(0.5, 1.5, w.shape) for w in layers[1].get_weights()]
    for layer in layers:
        layer.set_weights(weights)
    return layers


def numpy(tensor):
    return np.asarray(tf.cast(tensor, "float64"))


def step(layer, x, training=True, compiled=None, **call):
    """One pass: outputs, the gradients of input, gamma and beta, then all weights."""
    x = tf.constant(x, layer.compute_dtype)
    upstream = tf.constant(pixels(*x.shape, mean=0, std=1, seed=2))

    def forward_and_back(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=training, **call)
            loss = tf.reduce_sum(tf.cast(y, "float32") * upstream)
        variables = [v.value for v in (layer.gamma, layer.beta) if v is not None]
        return y, tape.gradient(loss, [x, *variables])

    y, gradients = (compiled(forward_and_back) if compiled else forward_and_back)(x)
    return [numpy(value) for value in (y, *gradients, *layer.get_weights())]


def assert_all_close(ours, stock, rtol=1e-5, atol=1e-5):
    assert len(ours) == len(stock)
    for a, b in zip(ours, stock, strict=True):
        assert a.shape == b.shape
        assert_allclose(a, b, rtol=rtol, atol=atol)


def op_types(layer, spec, training=True, jit_compile=False, **call):
    function = tf.function(lambda x: layer(x, training=training, **call), jit_compile=jit_compile)
    graph = function.get_concrete_function(spec).graph
    return {operation.type for operation in graph.get_operations()}


# The fused path in float32


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"scale": False},
        {"center": False},
        {"scale": False, "center": False},
        {"epsilon": 1e-5, "momentum": 0.9},
        {"epsilon": 0.3, "momentum": 0.0},
        {"axis": 3},
    ],
    ids=str,
)
@pytest.mark.parametrize("shape", [(4, 5, 7, 3), (8, 1, 1, 3), (1, 3, 2, 3)], ids=str)
def test_equals_stock(shape, arguments, training):
    ours, stock = pair(**arguments)
    x = pixels(*shape)
    before = stock.get_weights()
    assert_all_close(step(ours, x, training), step(stock, x, training))
    changed = not np.array_equal(before[-1], ours.get_weights()[-1])
    assert changed == training


@pytest.mark.parametrize("n", [2, 3, 5])
def test_moving_variance_is_the_biased_one(n):
    layer = BatchNormalization(momentum=0.0)
    x = pixels(n, 1, 1, 4)
    layer(x, training=True)
    assert_allclose(layer.moving_variance, x.var((0, 1, 2)), rtol=1e-5)
    assert_allclose(layer.moving_mean, x.mean((0, 1, 2)), rtol=1e-5)


def test_one_pixel():
    ours, stock = pair(momentum=0.5)
    x = pixels(1, 1, 1, 3)
    assert_all_close(step(ours, x), step(stock, x))
    assert_allclose(step(ours, x)[0][0, 0, 0], ours.beta, atol=1e-5)


def test_one_pixel_where_the_kernel_divides_zero_by_zero(monkeypatch):
    # cuDNN gives NaN for the unbiased variance of one value (tensorflow#34062), the CPU 0.
    fused = BatchNormalization._fused

    def as_on_a_gpu(*arguments, **keywords):
        y, mean, variance = fused(*arguments, **keywords)
        return y, mean, variance * np.nan

    ours, stock = pair(momentum=0.5)
    monkeypatch.setattr(BatchNormalization, "_fused", as_on_a_gpu)
    x = pixels(1, 1, 1, 3)
    assert_all_close(step(ours, x), step(stock, x))


@pytest.mark.parametrize("mean", [100.0, -100.0])
def test_mean_far_above_the_deviation(mean):
    # Float32 itself leaves about 1e-5 of such a mean; a one-pass variance would be off by 1e-2.
    ours, stock = pair(momentum=0.0)
    x = pixels(8, 7, 7, 3, mean=mean, std=1.0)
    assert_all_close(step(ours, x), step(stock, x), rtol=1e-3, atol=3e-4)
    assert_allclose(ours.moving_variance, x.astype("float64").var((0, 1, 2)), rtol=1e-4)


def test_several_steps_in_a_row():
    ours, stock = pair(momentum=0.7)
    for seed in range(6):
        x = pixels(2, 3, 2, 3, mean=seed, seed=seed)
        assert_all_close(step(ours, x), step(stock, x))
    x = pixels(2, 3, 2, 3)
    assert_all_close(step(ours, x, training=False), step(stock, x, training=False))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("channels", [3, None])
@pytest.mark.parametrize("scale", [True, False])
def test_unknown_dimensions(scale, channels, training):
    ours, stock = pair(scale=scale, center=scale, momentum=0.5)
    spec = tf.TensorSpec((None, None, None, channels), "float32")
    functions = [
        tf.function(lambda x, layer=layer: layer(x, training=training), input_signature=[spec])
        for layer in (ours, stock)
    ]
    for shape in ((2, 1, 1, 3), (3, 4, 2, 3)):
        ys = [function(pixels(*shape)) for function in functions]
        assert_all_close([ys[0], *ours.get_weights()], [ys[1], *stock.get_weights()])
    assert functions[0].experimental_get_tracing_count() == 1


def test_input_with_unknown_size_in_a_functional_model():
    inputs = keras.Input((None, None, 3))
    outputs = BatchNormalization()(inputs)
    assert outputs.shape == (None, None, None, 3)
    model = keras.Model(inputs, outputs)
    x = pixels(2, 3, 5, 3)
    assert_allclose(model(x, training=True), Stock()(x, training=True), atol=1e-5)


# Half precision


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "bfloat16", "float16"])
@pytest.mark.parametrize("training", [True, False])
def test_half_precision(policy, training):
    keras.config.set_dtype_policy(policy)
    ours, stock = pair(momentum=0.5)
    half = policy.removeprefix("mixed_")
    epsilon = {"bfloat16": 2.0**-7, "float16": 2.0**-10}[half]
    x = pixels(4, 5, 3, 3)
    y = ours(x, training=False)
    assert keras.backend.standardize_dtype(y.dtype) == half
    weights_dtype = "float32" if policy != half else half
    assert {w.dtype for w in ours.weights} == {weights_dtype}
    got, expected = step(ours, x, training), step(stock, x, training)
    # Both round to half precision once, at the end.
    assert_all_close(got, expected, rtol=2 * epsilon, atol=epsilon / 4)
    if policy != half:
        # Gamma's and beta's gradients and the moving statistics stay in float32.
        assert_all_close(got[2:], expected[2:], rtol=1e-4, atol=1e-4)
    assert FUSED in op_types(ours, tf.TensorSpec((2, 3, 3, 3), half), training)


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_does_not_overflow(dtype):
    # The squares of these are above float16's largest number.
    x = pixels(4, 5, 3, 3, mean=0, std=3000)
    ours, stock = pair(dtype=dtype, momentum=0.0)
    got, expected = step(ours, x), step(stock, x)
    assert np.isfinite(got[0]).all()
    assert ours.moving_variance.numpy().min() > 65504
    assert_all_close(got, expected, rtol=2.0**-6, atol=2.0**-8)


@pytest.mark.parametrize(("policy", "given"), [("mixed_bfloat16", "float32"), ("float32", "half")])
def test_input_that_is_not_cast(policy, given):
    # With autocast=False the input's type may differ from the output's: Keras's own code knows how.
    x = tf.cast(pixels(4, 3, 3, 3), given)
    ours, stock = pair(dtype=policy, autocast=False)
    for training in (True, False):
        y, expected = (layer(x, training=training) for layer in (ours, stock))
        assert y.dtype == expected.dtype
        assert_all_close([numpy(y)], [numpy(expected)])


# Weights, names and saved models


def test_weights_are_stock_weights():
    ours, stock = pair()
    assert [w.name for w in ours.weights] == ["gamma", "beta", "moving_mean", "moving_variance"]
    for attribute in ("weights", "trainable_weights", "non_trainable_weights"):
        names, expected = ([w.name for w in getattr(layer, attribute)] for layer in (ours, stock))
        assert names == expected
    assert [w.path.split("/")[-1] for w in ours.weights] == [w.name for w in stock.weights]


@pytest.mark.parametrize(("source", "target"), [(0, 1), (1, 0)])
def test_weights_go_both_ways(source, target):
    source, target = pair()[source], pair(seed=5)[target]
    x = pixels(2, 3, 3, 3)
    source(x, training=True)
    target.set_weights(source.get_weights())
    assert_all_close([target(x)], [source(x)])


@pytest.mark.parametrize(("source", "target"), [(0, 1), (1, 0)])
def test_weight_files_go_both_ways(tmp_path, source, target):
    def model(normalization):
        keras.utils.clear_session(free_memory=False)
        layers = [keras.Input((4, 4, 3)), keras.layers.Conv2D(2, 3), normalization()]
        return keras.Sequential(layers)

    classes = (BatchNormalization, Stock)
    saved, loaded = model(classes[source]), model(classes[target])
    x = pixels(5, 4, 4, 3)
    saved(x, training=True)
    saved.save_weights(tmp_path / "net.weights.h5")
    loaded.load_weights(tmp_path / "net.weights.h5")
    assert_all_close(loaded.get_weights(), saved.get_weights(), rtol=0, atol=0)
    assert_all_close([loaded(x)], [saved(x)])


def test_config_is_stock_config():
    arguments = {"epsilon": 1e-5, "momentum": 0.9, "gamma_initializer": "zeros", "name": "bn"}
    layer = BatchNormalization(**arguments, center=False, gamma_regularizer=keras.regularizers.L2())
    stock = Stock(**arguments, center=False, gamma_regularizer=keras.regularizers.L2())
    assert layer.get_config() == stock.get_config()
    serialized = keras.saving.serialize_keras_object(layer)
    assert serialized["registered_name"] == "resnet_keras>BatchNormalization"
    again = keras.saving.deserialize_keras_object(copy.deepcopy(serialized), safe_mode=True)
    assert type(again) is BatchNormalization
    assert again.get_config() == layer.get_config()


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_saved_model_loads(tmp_path, policy):
    keras.config.set_dtype_policy(policy)
    inputs = keras.Input((6, 6, 3))
    x = conv_bn(inputs, 4, 3, 2, "2a_branch2a", STYLE)
    model = keras.Model(inputs, ZeroPaddedShortcut(6, 2)(x))
    x = pixels(3, 6, 6, 3)
    model(x, training=True)
    model.save(tmp_path / "net.keras")
    keras.config.set_dtype_policy("float32")
    loaded = keras.saving.load_model(tmp_path / "net.keras", safe_mode=True)
    assert [type(layer) for layer in loaded.layers] == [type(layer) for layer in model.layers]
    assert loaded.layers[-2].dtype_policy.name == policy
    assert_array_equal(numpy(loaded(x)), numpy(model(x)))


# Where the kernel runs, and where Keras's own code does


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("axis", [-1, 3])
def test_fused_kernel_is_used(axis, training):
    spec = tf.TensorSpec((None, None, None, 3), "float32")
    ours, stock = pair(axis=axis)
    assert FUSED in op_types(ours, spec, training)
    assert FUSED not in op_types(stock, spec, training)


FALLBACKS = {
    "axis 1": ((4, 3, 5, 6), {"axis": 1}),
    "axis 2": ((4, 3, 5, 6), {"axis": 2}),
    "axis -3": ((4, 3, 5, 6), {"axis": -3}),
    "rank 2": ((6, 3), {}),
    "rank 3": ((4, 5, 3), {}),
    "rank 5": ((2, 3, 2, 4, 3), {}),
    "renorm": ((4, 3, 5, 3), {"renorm": True, "renorm_clipping": {"rmax": 2.0, "dmax": 1.0}}),
    "float64": ((4, 3, 5, 3), {"dtype": "float64"}),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("case", FALLBACKS)
def test_falls_back_to_stock(case, training):
    shape, arguments = FALLBACKS[case]
    ours, stock = pair(shape, momentum=0.5, **arguments)
    x = pixels(*shape)
    assert_all_close(step(ours, x, training), step(stock, x, training))
    spec = tf.TensorSpec(shape, ours.compute_dtype)
    assert not any("BatchNorm" in name for name in op_types(ours, spec, training))


def test_synchronized_is_fused_at_inference_alone():
    shape = (4, 3, 5, 3)
    ours, stock = pair(shape, momentum=0.5, synchronized=True)
    x, spec = pixels(*shape), tf.TensorSpec(shape, "float32")
    for training in (True, False):
        assert_all_close(step(ours, x, training), step(stock, x, training))
        assert (FUSED in op_types(ours, spec, training)) == (not training)


@pytest.mark.parametrize("training", [True, False])
def test_mask_falls_back_to_stock(training):
    ours, stock = pair(momentum=0.5)
    x = pixels(4, 3, 5, 3)
    mask = np.random.default_rng(3).random((4, 3, 5)) < 0.5
    got = step(ours, x, training, mask=mask)
    assert_all_close(got, step(stock, x, training, mask=mask))
    spec = tf.TensorSpec(x.shape, "float32")
    assert FUSED not in op_types(ours, spec, training, mask=tf.constant(mask))
    if training:
        unmasked, _ = pair(momentum=0.5)
        assert np.abs(step(unmasked, x)[0] - got[0]).max() > 0.1


def test_mask_of_a_wrong_rank_is_refused_as_by_stock():
    with pytest.raises(ValueError, match="one dimension less"):
        BatchNormalization()(pixels(2, 3, 3, 3), mask=np.ones((2, 3), bool))


# Frozen layers


def test_frozen_layer_infers():
    ours, stock = pair()
    x = pixels(4, 3, 3, 3)
    for layer in (ours, stock):
        layer.trainable = False
    before = ours.get_weights()
    got = step(ours, x, training=True)
    assert_all_close(got, step(stock, x, training=True))
    assert_all_close([got[0]], [step(stock, x, training=False)[0]])
    assert_all_close(ours.get_weights(), before, rtol=0, atol=0)
    assert ours.trainable_weights == []
    ours.trainable = True
    step(ours, x, training=True)
    assert not np.array_equal(ours.moving_mean, before[2])


def conv_net(normalization, seed=0):
    """A small network in which one normalisation is shared by two branches."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, 2, "same", use_bias=False)(inputs)
    x = keras.layers.ReLU()(normalization(momentum=0.6, name="first")(x))
    shared = normalization(momentum=0.6, name="shared")
    branches = [
        shared(keras.layers.Conv2D(4, 1, use_bias=False, name=name)(x))
        for name in ("left", "right")
    ]
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(keras.layers.add(branches)))
    return keras.Model(inputs, keras.layers.Dense(3)(x))


def fit(model, epochs=2, batch_size=4, **compile_arguments):
    optimizer = keras.optimizers.SGD(
        0.05, momentum=0.9, gradient_accumulation_steps=compile_arguments.pop("accumulation", None)
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, **compile_arguments)
    # By fours, the last batch is smaller.
    x, y = pixels(10, 6, 6, 3, mean=0.5, std=1), np.arange(10) % 3
    history = model.fit(x, y, batch_size=batch_size, epochs=epochs, shuffle=False, verbose=0)
    return history.history["loss"]


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"accumulation": 2},
        {"jit_compile": True, "batch_size": 5},
        {"run_eagerly": True, "epochs": 1},
    ],
    ids=str,
)
def test_fit_equals_stock(arguments):
    ours, stock = conv_net(BatchNormalization), conv_net(Stock)
    start = ours.get_weights()
    assert_all_close(start, stock.get_weights(), rtol=0, atol=0)
    losses = fit(ours, **arguments)
    assert_allclose(losses, fit(stock, **arguments), rtol=1e-5, atol=1e-5)
    assert_all_close(ours.get_weights(), stock.get_weights())
    assert all(np.abs(a - b).max() > 1e-5 for a, b in zip(start, ours.get_weights(), strict=True))
    x = pixels(3, 8, 5, 3)
    assert_allclose(ours(x), stock(x), atol=1e-5)


def test_fit_leaves_a_frozen_layer_alone_until_it_is_thawed():
    models = conv_net(BatchNormalization), conv_net(Stock)

    def frozen_weights_after_fit(trainable):
        for model in models:
            model.get_layer("first").trainable = trainable
            fit(model, epochs=1)
        assert_all_close(models[0].get_weights(), models[1].get_weights())
        return np.concatenate(models[0].get_layer("first").get_weights())

    start = np.concatenate(models[0].get_layer("first").get_weights())
    assert_array_equal(frozen_weights_after_fit(trainable=False), start)
    thawed = frozen_weights_after_fit(trainable=True)
    assert (thawed != start).all()


# XLA, and the GPU


@pytest.mark.parametrize(("n", "mean"), [(1, 2.0), (2, 2.0), (5, 2.0), (5, 1000.0)])
def test_xla_equals_stock(n, mean):
    # XLA's own lowering of the fused operation gives E[x^2] - E[x]^2: useless for a mean of 1000.
    def xla(function):
        return tf.function(function, jit_compile=True)

    ours, stock = pair(momentum=0.0)
    x = pixels(n, 1, 1, 3, mean=mean, std=1)
    assert_all_close(step(ours, x, compiled=xla), step(stock, x, compiled=xla))
    assert_allclose(ours.moving_variance, x.astype("float64").var((0, 1, 2)), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_xla_runs_stock(training):
    ours, _ = pair()
    spec = tf.TensorSpec((4, 3, 3, 3), "float32")
    assert FUSED not in op_types(ours, spec, training, jit_compile=True)

    # Also in a function that the compiled one calls.
    inner = tf.function(lambda x: ours(x, training=training))
    outer = tf.function(inner, jit_compile=True)
    outer.get_concrete_function(spec)
    (traced,) = inner._list_all_concrete_functions()
    assert FUSED not in {operation.type for operation in traced.graph.get_operations()}


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16"])
def test_on_a_gpu(dtype):
    if not tf.config.list_physical_devices("GPU"):
        pytest.skip("this machine has no GPU that TensorFlow sees")
    with tf.device("/GPU:0"):
        ours, stock = pair(dtype=dtype, momentum=0.5, epsilon=1e-5)
        spec = tf.TensorSpec((None, None, None, 3), ours.compute_dtype)
        assert FUSED in op_types(ours, spec)
        assert "GPU" in ours(pixels(1, 1, 1, 3)).device
        tolerance = 1e-4 if dtype == "float32" else 2e-3
        for shape in ((8, 7, 7, 3), (2, 1, 1, 3), (1, 1, 1, 3)):
            for training in (True, False):
                got, expected = (step(layer, pixels(*shape), training) for layer in (ours, stock))
                assert_all_close(got, expected, rtol=tolerance, atol=tolerance)


# The zero-padded shortcut


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
        assert model.predict(x, verbose=0).shape == model(x).shape


def test_zero_padded_shortcut_passes_gradients():
    x = tf.constant(pixels(1, 3, 3, 2))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = ZeroPaddedShortcut(4, 2)(x)
    expected = np.zeros(x.shape)
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


# convolution and normalization


def conv_bn(x, filters, kernel_size, stride, branch, style, **bn):
    """Both, named as the networks name them."""
    conv_name, bn_name = (f"res{branch}", f"bn{branch}") if branch else ("conv1", "bn_conv1")
    x = convolution(x, filters, kernel_size, stride, conv_name, style)
    return normalization(x, bn_name, style, **bn)


def conv_bn_model(kernel_size, stride, branch, style=STYLE, size=9, **bn):
    inputs = keras.Input((size, size, 3))
    return keras.Model(inputs, conv_bn(inputs, 6, kernel_size, stride, branch, style, **bn))


@pytest.mark.parametrize(
    ("kernel_size", "stride", "branch", "names"),
    [
        (7, 2, "", ["conv1_pad", "conv1", "bn_conv1"]),
        (3, 1, "", ["conv1", "bn_conv1"]),
        (3, 1, "2a_branch2a", ["res2a_branch2a", "bn2a_branch2a"]),
        (3, 2, "3a_branch2a", ["res3a_branch2a_pad", "res3a_branch2a", "bn3a_branch2a"]),
        (1, 2, "3a_branch1", ["res3a_branch1", "bn3a_branch1"]),
        (1, 1, "3a_branch1", ["res3a_branch1", "bn3a_branch1"]),
    ],
)
def test_conv_bn_names(kernel_size, stride, branch, names):
    model = conv_bn_model(kernel_size, stride, branch)
    assert [layer.name for layer in model.layers[1:]] == names
    assert type(model.layers[-1]) is BatchNormalization


@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel_size", [1, 3, 5, 7])
def test_conv_bn_pads_by_half_a_kernel_on_every_side(kernel_size, stride, size):
    model = conv_bn_model(kernel_size, stride, "2a", size=size)
    x = pixels(2, size, size, 3)
    kernel = model.get_layer("res2a").kernel
    pad = kernel_size // 2
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    expected = tf.nn.conv2d(padded, kernel, stride, "VALID")
    convolved = keras.Model(model.input, model.get_layer("res2a").output)(x)
    assert_allclose(convolved, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize("dilation", [2, 3])
@pytest.mark.parametrize("kernel_size", [1, 2, 3, 5])
def test_a_dilated_convolution_does_on_every_grid_what_a_plain_one_does(
    kernel_size, dilation, size
):
    inputs = keras.Input((size, size, 3))
    outputs = convolution(inputs, 6, kernel_size, 1, "res2a", STYLE, dilation=dilation)
    x = pixels(2, size, size, 3)
    found = keras.Model(inputs, outputs)(x).numpy()
    kernel = keras.Model(inputs, outputs).get_layer("res2a").kernel
    before, after = (kernel_size - 1) // 2, kernel_size // 2
    sides = ((0, 0), (before, after), (before, after), (0, 0))
    for row in range(dilation):
        for column in range(dilation):
            grid = np.pad(x[:, row::dilation, column::dilation], sides)
            expected = tf.nn.conv2d(grid, kernel, 1, "VALID")
            assert_allclose(found[:, row::dilation, column::dilation], expected, atol=1e-4)


@pytest.mark.parametrize("use_bias", [True, False])
def test_conv_bn_follows_style(use_bias):
    style = Style(use_bias=use_bias, bn_epsilon=2e-4, bn_momentum=0.77)
    model = conv_bn_model(3, 1, "2a", style)
    assert model.get_layer("res2a").use_bias == use_bias
    assert len(model.get_layer("res2a").weights) == 1 + use_bias
    assert model.get_layer("bn2a").epsilon == 2e-4
    assert model.get_layer("bn2a").momentum == 0.77


def test_conv_bn_passes_arguments_to_the_normalization():
    model = conv_bn_model(3, 1, "2a", gamma_initializer="zeros")
    assert_array_equal(model.get_layer("bn2a").gamma, np.zeros(6))


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_conv_bn_starts_he_normal(kernel_size):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4, 4, 64))
    outputs = conv_bn(inputs, 256, kernel_size, 1, "2a", Style(use_bias=True))
    kernel, bias = keras.Model(inputs, outputs).get_layer("res2a").get_weights()
    # Of 16,384 or more draws the deviation is known to about 1%.
    assert_allclose(kernel.std(), np.sqrt(2 / (kernel_size**2 * 64)), rtol=0.03)
    assert abs(kernel.mean()) < 0.03 * kernel.std()
    # Normal, cut off at two deviations: 2.27 of those that remain.
    assert_allclose(np.abs(kernel).max(), 2.27 * kernel.std(), rtol=0.03)
    assert_array_equal(bias, np.zeros(256))


# --- Conv2D ---


def conv_and_stock(monkeypatch, kernel_size=1, dtype="float32", **options):
    """Ours, made to take its own way with few weights, and Keras's; of the same weights."""
    monkeypatch.setattr(layers, "MANY_WEIGHTS", 1)
    arguments = {"kernel_initializer": "he_normal", "padding": "same", "dtype": dtype, **options}
    ours = layers.Conv2D(5, kernel_size, **arguments)
    stock = keras.layers.Conv2D(5, kernel_size, **arguments)
    for layer in (ours, stock):
        layer.build((None, 7, 6, 16))
    values = [np.random.default_rng(i).normal(size=w.shape) for i, w in enumerate(stock.weights)]
    ours.set_weights(values)
    stock.set_weights(values)
    return ours, stock


def outputs_and_gradients(layer, x, upstream):
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = layer(x, training=True) if type(layer) is layers.Conv2D else layer(x)
        loss = tf.reduce_sum(tf.cast(outputs, "float32") * upstream)
    return [outputs, *tape.gradient(loss, [x, *(weight.value for weight in layer.weights)])]


CONVOLUTIONS = [
    {"kernel_size": 1},
    {"kernel_size": 1, "strides": 2},
    {"kernel_size": 1, "strides": (1, 2), "use_bias": False},
    {"kernel_size": 1, "padding": "valid", "activation": "relu"},
    # Half precision, as windows take matrix products only there.
    {"kernel_size": 3, "dtype": "mixed_bfloat16"},
    {"kernel_size": (3, 5), "dtype": "mixed_bfloat16", "use_bias": False},
]


@pytest.mark.parametrize("options", CONVOLUTIONS)
def test_convolution_equals_stock(monkeypatch, options):
    ours, stock = conv_and_stock(monkeypatch, **options)
    assert ours._gains_by_products()
    generator = np.random.default_rng(5)
    x = generator.normal(size=(2, 7, 6, 16)).astype("float32")
    upstream = generator.normal(size=stock(x).shape).astype("float32")
    expected = outputs_and_gradients(stock, x, upstream)
    found = outputs_and_gradients(ours, x, upstream)
    assert len(found) == 3 + ours.use_bias
    tolerance = 0.02 if "dtype" in options else 1e-5
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        largest = np.abs(other.numpy().astype("float32")).max()
        assert_allclose(
            one.numpy().astype("float32"),
            other.numpy().astype("float32"),
            rtol=0,
            atol=tolerance * largest,
        )


@pytest.mark.parametrize("strides", [(2, 2), (1, 2)])
@pytest.mark.parametrize("channels", [1, 3, 7, 8, 15])
@pytest.mark.parametrize("training", [True, False])
def test_kernel_gradient_of_strided_1x1_convolution(channels, strides, training):
    layer = layers.Conv2D(5, 1, strides=strides, padding="same", use_bias=False)
    generator = np.random.default_rng(7)
    x = generator.normal(size=(5, 14, 14, channels)).astype("float32")
    upstream = generator.normal(size=layer(x).shape).astype("float32")
    for _ in range(5):  # oneDNN's is right now and then
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(x, training=training) * upstream)
        read = x[:, :: strides[0], :: strides[1]]
        assert_allclose(
            tape.gradient(loss, layer.kernel.value)[0, 0],
            np.einsum("bhwc,bhwf->cf", read, upstream),
            rtol=0,
            atol=1e-4,
        )


@pytest.mark.parametrize("options", [CONVOLUTIONS[1], CONVOLUTIONS[4]])
def test_convolution_of_unknown_size(monkeypatch, options):
    ours, stock = conv_and_stock(monkeypatch, **options)
    x = np.random.default_rng(6).normal(size=(2, 7, 6, 16)).astype("float32")

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 16), "float32")])
    def kernel_gradient(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.cast(ours(x, training=True), "float32"))
        return tape.gradient(loss, ours.kernel.value)

    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.cast(stock(x), "float32"))
    expected = tape.gradient(loss, stock.kernel.value)
    assert_allclose(kernel_gradient(x), expected, rtol=0.02, atol=0.2)


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3},  # float32
        {"kernel_size": 3, "strides": 2, "dtype": "mixed_bfloat16"},
        {"kernel_size": 3, "padding": "valid", "dtype": "mixed_bfloat16"},
        {"kernel_size": 2, "dtype": "mixed_bfloat16"},
        {"kernel_size": 3, "dilation_rate": 2, "dtype": "mixed_bfloat16"},
    ],
)
def test_other_convolutions_are_stock(monkeypatch, options):
    ours, _ = conv_and_stock(monkeypatch, **options)
    assert not ours._gains_by_products()


def graph_operations(function):
    graph = tf.function(function).get_concrete_function().graph.as_graph_def()
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    return {node.op for node in nodes}


def test_convolution_is_stock_in_inference_and_of_few_weights(monkeypatch):
    ours, _ = conv_and_stock(monkeypatch)
    x = tf.ones((1, 7, 6, 16))

    def operations_of_gradient(training):
        def gradient():
            with tf.GradientTape() as tape:
                outputs = ours(x, training=training)
            return tape.gradient(outputs, ours.kernel.value)

        return graph_operations(gradient)

    assert "MatMul" in operations_of_gradient(True)
    assert "Conv2DBackpropFilter" in operations_of_gradient(False)
    assert "IdentityN" not in graph_operations(lambda: ours(x, training=False))
    monkeypatch.setattr(layers, "MANY_WEIGHTS", 81)
    assert "Conv2DBackpropFilter" in operations_of_gradient(True)


def test_convolution_survives_its_config():
    layer = layers.Conv2D(5, 1, strides=2, use_bias=False, name="res2a_branch1")
    config = keras.saving.serialize_keras_object(layer)
    copied = keras.saving.deserialize_keras_object(config, safe_mode=True)
    assert type(copied) is layers.Conv2D
    assert copied.get_config() == layer.get_config()
