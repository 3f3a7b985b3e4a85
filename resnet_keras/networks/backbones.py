"""What detection and segmentation build on: the maps at the ends of a network's stages."""

from collections.abc import Sequence
from dataclasses import replace

import keras

from resnet_keras.architectures import find, model_name
from resnet_keras.errors import InputError
from resnet_keras.networks.feature_maps import features
from resnet_keras.networks.loading import WeightsSource, fit_weights, read_weights
from resnet_keras.networks.models import Features, InputShape, build
from resnet_keras.networks.recursion import recursion_for


def backbone(
    network: str,
    /,
    outputs: Sequence[str] | None = None,
    output_stride: int | None = None,
    weights: WeightsSource | None = None,
    input_shape: InputShape = (None, None, 3),
    freeze_bn: bool = False,
    name: str | None = None,
    include_preprocessing: bool = True,
) -> keras.Model:
    """A network of the family without its classifier, giving maps by the names of its stages.

    Args:
        network: such as "resnet101"; `list_models()` gives them all.
        outputs: the maps to give: "C2" to "C5" of the ImageNet networks, to "C4" of the CIFAR ones;
            all if None. Stages beyond the last of them are not in the model.
        output_stride: pixels of the image from one place of the last stage's map to the next, at
            most: 4, 8, 16 or 32 of an ImageNet network, 1, 2 or 4 of a CIFAR one. Later stages are
            dilated instead of strided, see `Architecture`. None for the network's own.
        weights: of the same network, with or without dilation and classifier, of this package or
            of another project, whose preprocessing the model then has: see `loading.read_weights`;
            None for He initialisation.
        input_shape: (height, width, 3), height and width in pixels or None for any.
        freeze_bn: whether batch normalisations keep gammas, betas and statistics in training, see
            `freeze_normalizations`.
        name: of the model.
        include_preprocessing: see `models.build`.

    Returns:
        A model from pixels (batch, height, width, 3) to {"C3": …, …} in the order of `outputs`,
        each (batch, ceil(height / stride), ceil(width / stride), channels) in the compute dtype;
        `Architecture.strides` and `Architecture.channels` tell both. (The map of the course's
        network, whose pool is not padded, can be a pixel smaller.)

    Raises:
        InputError: no such network, map or stride, or weights that do not fit.
    """
    architecture, stored = find(network), None
    if weights is not None:
        stored = read_weights(weights, network, architecture)
        architecture = stored.architecture
    architecture = replace(architecture, output_stride=output_stride)
    trunk = build(
        architecture,
        input_shape,
        Features(),
        name or f"{model_name(network)}_backbone",
        include_preprocessing,
    )
    if stored:
        fit_weights(trunk, stored.weights, stored.source)
    if freeze_bn:
        freeze_normalizations(trunk)
    with recursion_for(len(trunk.layers)):
        return keras.Model(trunk.input, _chosen(features(trunk).output, outputs), name=trunk.name)


def _chosen(
    maps: dict[str, keras.KerasTensor], outputs: Sequence[str] | None
) -> dict[str, keras.KerasTensor]:
    if outputs is None:
        return maps
    if isinstance(outputs, str):
        outputs = (outputs,)
    if not outputs or not set(outputs) <= set(maps):
        raise InputError(
            "outputs are not names of feature maps",
            received=repr(outputs),
            accepted=f"one or more of {', '.join(maps)}",
        )
    return {name: maps[name] for name in outputs}


def freeze_normalizations(model: keras.Model) -> None:
    """Lets all batch normalisations of a model infer, even while the rest of it is trained.

    Detectors see one or two images a step, too few for statistics; so they keep those of the
    pretraining, and the gammas and betas with them (He et al. 2016, "Deep Residual Learning",
    appendix A). Setting `model.trainable`, or that of a model around it, undoes it.

    Args:
        model: a functional one, such as `backbone` gives; models inside of it are not searched.
    """
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
