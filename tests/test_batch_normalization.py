"""The layer BatchNormalization against Keras's: values, gradients, weights, files, training."""

import copy

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose, assert_array_equal

from resnet_keras.networks.layers import BatchNormalization

Stock = keras.layers.BatchNormalization
FUSED = "FusedBatchNormV3"


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
    ("shape", "arguments"),
    [
        ((4, 5, 7, 3), {}),
        ((4, 5, 7, 3), {"scale": False}),
        ((4, 5, 7, 3), {"center": False}),
        ((4, 5, 7, 3), {"epsilon": 1e-5, "momentum": 0.9}),
        ((4, 5, 7, 3), {"epsilon": 0.3, "momentum": 0.0}),
        ((4, 5, 7, 3), {"axis": 3}),
        ((8, 1, 1, 3), {}),
        ((1, 3, 2, 3), {"scale": False, "center": False}),
    ],
    ids=str,
)
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
    on_the_cpu = tf.raw_ops.FusedBatchNormV3

    def as_on_a_gpu(**arguments):
        result = on_the_cpu(**arguments)
        return result._replace(batch_variance=result.batch_variance * np.nan)

    ours, stock = pair(momentum=0.5)
    monkeypatch.setattr(tf.raw_ops, FUSED, as_on_a_gpu)
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


@pytest.mark.parametrize(
    ("scale", "channels", "training"),
    [(True, 3, True), (True, None, False), (False, None, True), (False, 3, False)],
)
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


def fit(model, epochs=2, batch_size=4, accumulation=None, **compile_arguments):
    optimizer = keras.optimizers.SGD(0.05, momentum=0.9, gradient_accumulation_steps=accumulation)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, **compile_arguments)
    # Variables that a step makes would have it traced twice.
    optimizer.build(model.trainable_variables)
    # By fours, the last batch is smaller.
    x, y = pixels(10, 6, 6, 3, mean=0.5, std=1), np.arange(10) % 3
    history = model.fit(x, y, batch_size=batch_size, epochs=epochs, shuffle=False, verbose=0)
    return history.history["loss"]


@pytest.mark.parametrize(
    "arguments",
    [
        {"run_eagerly": True, "epochs": 1},
        {"accumulation": 2},
        {"jit_compile": True, "batch_size": 5},
    ],
    ids=str,
)
def test_fit_equals_stock(arguments):
    ours, stock = conv_net(BatchNormalization), conv_net(Stock)
    start = ours.get_weights()
    assert_all_close(start, stock.get_weights(), rtol=0, atol=0)
    losses = fit(ours, **arguments)
    # Stock Keras runs eagerly: tracing would take longer, for the same numbers.
    expected = fit(stock, **arguments | {"run_eagerly": True, "jit_compile": False})
    assert_allclose(losses, expected, rtol=1e-5, atol=1e-5)
    assert_all_close(ours.get_weights(), stock.get_weights())
    assert all(np.abs(a - b).max() > 1e-5 for a, b in zip(start, ours.get_weights(), strict=True))
    x = pixels(3, 8, 5, 3)
    assert_allclose(ours(x), stock(x), atol=1e-5)


def test_fit_leaves_a_frozen_layer_alone_until_it_is_thawed():
    ours, stock = conv_net(BatchNormalization), conv_net(Stock)

    def frozen_weights_after_fit(trainable):
        for model, eagerly in ((ours, False), (stock, True)):
            model.get_layer("first").trainable = trainable
            fit(model, epochs=1, run_eagerly=eagerly)
        assert_all_close(ours.get_weights(), stock.get_weights())
        return np.concatenate(ours.get_layer("first").get_weights())

    start = np.concatenate(ours.get_layer("first").get_weights())
    assert_array_equal(frozen_weights_after_fit(trainable=False), start)
    thawed = frozen_weights_after_fit(trainable=True)
    assert (thawed != start).all()


# XLA, and the GPU


@pytest.mark.parametrize(("n", "mean"), [(1, 2.0), (2, 2.0), (5, 1000.0)])
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
