"""Networks from architectures: stem, stages, head; built, named, loaded, and as features."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal

import keras

from resnet_keras.architectures import Architecture, Preprocessing, find, model_name
from resnet_keras.errors import InputError
from resnet_keras.networks.blocks import activation, residual_unit
from resnet_keras.networks.layers import Dense, check_data_format, convolution, normalization
from resnet_keras.networks.loading import NORMALIZE, WeightsSource, fit_weights, read_weights
from resnet_keras.networks.recursion import recursion_for
from resnet_keras.view import View

LAYERS_PER_CONVOLUTION = 4  # itself, BN, ReLU, and now and then padding or an addition
FINAL = "_final"  # names what follows the last unit of a pre-activated network

InputShape = tuple[int | None, int | None, int]


@dataclass(frozen=True)
class Classifier:
    """A head that gives one score for every class; its arithmetic is float32 under any policy.

    Attributes:
        classes: how many; None for the architecture's.
        activation: of the scores: "softmax", or None for logits.
        class_names: in the order of the scores, to be kept with the model; None if not known.
        centre: of the view that the model is made for, likewise.
        kernel_std: of the normal distribution that its weights are drawn from; None draws them as
            those of the convolutions.
    """

    classes: int | None = None
    activation: str | None = "softmax"
    class_names: tuple[str, ...] | None = None
    centre: float | None = None
    kernel_std: float | None = None


@dataclass(frozen=True)
class Features:
    """A head that gives the last stage's map (pooling None) or a vector (batch, channels)."""

    pooling: Literal["avg", "max"] | None = None


Builder = Callable[[InputShape, Classifier, str], keras.Model]
"""Makes a network of pixels 0..255 from the shape of an image, its head and its name."""


def build(
    architecture: Architecture,
    input_shape: InputShape | None = None,
    head: Classifier | Features = Classifier(),
    name: str | None = None,
    include_preprocessing: bool = True,
) -> keras.Model:
    """Builds a network with the Keras functional API.

    Args:
        architecture: what to build.
        input_shape: (height, width, channels), height and width in pixels or None for any; the
            architecture's own size if None.
        head: what follows the last stage.
        name: of the model.
        include_preprocessing: take RGB pixels 0..255 (uint8 or float) and normalise them, in
            float32 under any policy, by the architecture's mean and standard deviation. Without it
            the network takes what it is given.

    Returns:
        A model from (batch, height, width, channels) to (batch, classes) float32, or to what
        `Features` says.

    Raises:
        InputError: the image is too small for the network, has not three channels although it is to
            be normalised, there is less than one class, or Keras is set to channels first.
    """
    if not isinstance(architecture, Architecture):
        raise InputError(
            "architecture has the wrong type",
            received=repr(architecture),
            accepted="an Architecture (create takes a name)",
        )
    check_data_format()
    shape = input_shape or (architecture.input_size, architecture.input_size, 3)
    _check_input_shape(architecture, shape, include_preprocessing)
    inputs = keras.Input(shape, name="pixels")
    x = _normalize(inputs, architecture.preprocessing) if include_preprocessing else inputs
    maps = [_stem(x, architecture)]
    for unit in architecture.units():
        x, earlier = maps[-1], maps[len(maps) - unit.reach : -1]
        maps.append(residual_unit(x, unit, architecture.defaults, earlier))
    x = maps[-1]
    x = activation(x, architecture.unit.ordering.first, FINAL, architecture.defaults)
    outputs = _head(x, architecture, head)
    with recursion_for(layers=LAYERS_PER_CONVOLUTION * architecture.depth):
        return keras.Model(inputs, outputs, name=name)


@contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Layers made inside take this Keras dtype policy; the one before it returns afterwards."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _normalize(x: keras.KerasTensor, preprocessing: Preprocessing) -> keras.KerasTensor:
    return keras.layers.Rescaling(
        scale=[1 / std for std in preprocessing.std],
        offset=[
            -mean / std for mean, std in zip(preprocessing.mean, preprocessing.std, strict=True)
        ],
        dtype="float32",
        name=NORMALIZE,
    )(x)


def _stem(x: keras.KerasTensor, architecture: Architecture) -> keras.KerasTensor:
    stem = architecture.stem
    defaults = architecture.defaults
    x = convolution(x, stem.convolution, "conv1", defaults)
    if stem.activated:
        x = normalization(x, "bn_conv1", defaults)
        x = keras.layers.Activation("relu", name="conv1_relu")(x)
    if stem.pool_size is None:
        return x
    if stem.pool_padding:
        x = keras.layers.ZeroPadding2D(stem.pool_padding, name="pool1_pad")(x)
    return keras.layers.MaxPooling2D(stem.pool_size, strides=2, name="pool1")(x)


def _head(
    x: keras.KerasTensor, architecture: Architecture, head: Classifier | Features
) -> keras.KerasTensor:
    if isinstance(head, Classifier):
        classes = architecture.classes if head.classes is None else head.classes
        if classes < 1:
            raise InputError(
                "a classifier needs at least one class",
                received=f"classes={classes}",
                accepted="1 or more",
            )
        x = _average(x, architecture.head_window)
        if architecture.head_dropout:
            x = keras.layers.Dropout(architecture.head_dropout, dtype="float32", name="drop_fc")(x)
        initializer = "he_normal"
        if head.kernel_std is not None:
            initializer = keras.initializers.RandomNormal(stddev=head.kernel_std)
        return Dense(
            classes,
            activation=head.activation,
            class_names=head.class_names,
            centre=head.centre,
            kernel_initializer=initializer,
            dtype="float32",
            name=f"fc{classes}",
        )(x)
    if head.pooling == "avg":
        return keras.layers.GlobalAveragePooling2D(dtype="float32", name="avg_pool")(x)
    if head.pooling == "max":
        return keras.layers.GlobalMaxPooling2D(dtype="float32", name="max_pool")(x)
    if head.pooling is None:
        return x
    raise InputError(
        "unknown pooling", received=repr(head.pooling), accepted="None, 'avg' or 'max'"
    )


def _average(x: keras.KerasTensor, window: int | None) -> keras.KerasTensor:
    """Averages a map into the classifier's vector.

    A head with a window flattens what is left, so it needs to know the image's size; where that is
    open, the whole map is averaged, which is the same at the size the network was published with.
    """
    if window is None or None in x.shape[1:3]:
        return keras.layers.GlobalAveragePooling2D(dtype="float32", name="avg_pool")(x)
    x = keras.layers.AveragePooling2D(window, dtype="float32", name="avg_pool")(x)
    return keras.layers.Flatten(name="flatten", dtype="float32")(x)


def _check_input_shape(
    architecture: Architecture, shape: InputShape, include_preprocessing: bool
) -> None:
    if len(shape) != 3 or shape[2] is None:
        raise InputError(
            "input_shape is not a shape of images",
            received=shape,
            accepted="(height, width, channels), of which height and width may be None",
        )
    architecture.check_sides(*shape[:2])
    if include_preprocessing and shape[2] != 3:
        raise InputError(
            "the built-in preprocessing takes RGB images only",
            received=f"{shape[2]} channels",
            accepted="3, or include_preprocessing=False",
        )


def create(
    network: str,
    /,
    include_top: bool = True,
    weights: WeightsSource | None = None,
    input_shape: InputShape | None = None,
    pooling: Literal["avg", "max"] | None = None,
    classes: int | None = None,
    classifier_activation: str | None = "softmax",
    name: str | None = None,
    include_preprocessing: bool = True,
) -> keras.Model:
    """Builds a network of the family by its name, with the keywords of keras.applications.

    Differences from keras.applications: the model takes RGB pixels 0..255 and normalises them
    itself (`include_preprocessing`), `weights` may be of other projects, `classes` defaults to
    those of the weights or to the number that the network was published with, and there is no
    `input_tensor`: call the model on one.

    Args:
        network: such as "resnet50"; `list_models()` gives them all.
        include_top: end in a classifier; otherwise as `pooling` says.
        weights: of the same network, of this package or of another project, whose preprocessing
            the model then has: a file, a folder, a live model or "imagenet", see
            `loading.read_weights`; None for He initialisation.
        input_shape: (height, width, 3), height and width may be None.
        pooling: without a classifier: None gives the last map, "avg" and "max" a vector.
        classes: of the classifier; None for those of the weights, or the published number.
        classifier_activation: "softmax", or None for logits.
        name: of the model; the network's name by default.
        include_preprocessing: see `build`.

    Raises:
        InputError: no such network, an argument out of range, or weights that do not fit.
    """
    if not isinstance(network, str):
        raise InputError(
            "network has the wrong type",
            received=repr(network),
            accepted="a network's name (build takes an Architecture)",
        )
    architecture, stored, class_names = find(network), None, None
    if weights is not None:
        stored = read_weights(weights, network, architecture)
        architecture = stored.architecture
        if include_top and classes not in (None, stored.classes):
            raise InputError(
                "the weights have another number of classes",
                received=f"classes={classes}, and {stored.classes or 'none'} in {stored.source}",
                accepted="the weights' number of classes, include_top=False, or train with these "
                "weights, which makes a new classifier",
            )
        classes = stored.classes if classes is None else classes
        class_names = stored.class_names if classes == stored.classes else None
    head = Features(pooling)
    if include_top:
        head = Classifier(classes, classifier_activation, class_names)
    model = build(
        architecture, input_shape, head, name or model_name(network), include_preprocessing
    )
    if stored:
        fit_weights(model, stored.weights, stored.source)
    return model


def _named(network: str) -> Callable[..., keras.Model]:
    builder = partial(create, network)
    builder.__doc__ = f'The network "{network}"; arguments and errors are those of `create`.'
    return builder


ResNet18 = _named("resnet18")
ResNet34 = _named("resnet34")
ResNet50 = _named("resnet50")
ResNet101 = _named("resnet101")
ResNet152 = _named("resnet152")


def is_of_logits(model: keras.Model) -> bool:
    """Whether a classifier's outputs are logits, which a softmax makes probabilities."""
    return getattr(model.layers[-1], "activation", None) is keras.activations.linear


def view_of(model: keras.Model) -> View:
    """What a model is shown of an image file, by its input's size and the centre it was made for.

    Raises:
        InputError: the model takes images of any size, or neither RGB nor grey ones.
    """
    height, width, channels = model.input_shape[1:]
    if None in (height, width) or channels not in (1, 3):
        raise InputError(
            "the model's input is no image of a fixed size",
            received=f"{height}x{width} pixels, {channels} channels",
            accepted="a model of images of one size, in RGB (3 channels) or grey (1)",
        )
    centre = getattr(model.layers[-1], "centre", None)
    return View(height, width, 1.0 if centre is None else centre, channels)
