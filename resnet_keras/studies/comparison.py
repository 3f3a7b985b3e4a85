"""ResNets beside other networks: parameters, arithmetic, training speed and error."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import median

import keras
import numpy as np
from matplotlib.figure import Figure

from resnet_keras import architectures
from resnet_keras.architectures import IMAGENET_PREPROCESSING
from resnet_keras.evaluation.introspection import multiply_adds
from resnet_keras.networks.models import Classifier, InputShape, build
from resnet_keras.recipes import QUICK
from resnet_keras.studies import schedules
from resnet_keras.studies.study import (
    Findings,
    Picture,
    Result,
    Results,
    Setting,
    Study,
    Table,
    Training,
    spread,
    test_error,
)

RESNET, RESNEXT, DENSENET = TRAINED = ("resnet50", "resnext50-32x4d", "densenet121")
PUBLISHED = Classifier(1000)
PUBLISHED_SHAPE = (224, 224, 3)
# With the warm-up that deep networks need in so few epochs; DenseNet takes no smaller images.
FEW_EPOCHS = replace(QUICK, epochs=6, image_size=32)

# Multiply-adds in 1e9 [1, table 1 and section 3.3]; top-1 error in per cent, ImageNet's validation
# images by ten crops [1, table 3].
PAPER = {RESNET: ("3.8", "22.85"), "vgg16": ("", "28.07"), "vgg19": ("19.6", "")}


def densenet(input_shape: InputShape, head: Classifier, name: str) -> keras.Model:
    """Keras's DenseNet-121 with its preprocessing inside, as in our networks."""
    inputs = keras.Input(input_shape)
    # As keras.applications.densenet.preprocess_input has it.
    mean, std = map(np.array, (IMAGENET_PREPROCESSING.mean, IMAGENET_PREPROCESSING.std))
    x = keras.layers.Rescaling((1 / std).tolist(), (-mean / std).tolist())(inputs)
    network = keras.applications.DenseNet121(
        weights=None, input_tensor=x, classes=head.classes, classifier_activation=head.activation
    )
    # Its own input is a list of one.
    return keras.Model(inputs, network.output, name=name)


def _of_applications(application: Callable[..., keras.Model]) -> Callable[..., keras.Model]:
    return lambda input_shape, head: application(
        weights=None, input_shape=input_shape, classes=head.classes
    )


BUILDERS = {
    **{name: partial(build, architectures.find(name)) for name in (RESNET, RESNEXT)},
    DENSENET: partial(densenet, name=DENSENET),
    "vgg16": _of_applications(keras.applications.VGG16),
    "vgg19": _of_applications(keras.applications.VGG19),
}


def _trainings(setting: Setting, seed: int) -> Sequence[Training]:
    return [
        *(
            schedules.training(name, setting, seed, quick=FEW_EPOCHS, tag="compared")
            for name in (RESNET, RESNEXT)
        ),
        replace(
            schedules.training(RESNET, setting, seed, quick=FEW_EPOCHS, tag="compared"),
            network=DENSENET,
            builder=densenet,
        ),
    ]


@dataclass(frozen=True)
class _Size:
    """What a network is as published: its trainable parameters, and multiply-adds."""

    parameters: int
    multiply_adds: int


def _size(name: str) -> _Size:
    model = BUILDERS[name](PUBLISHED_SHAPE, PUBLISHED)
    parameters = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    return _Size(parameters, multiply_adds(model))


def _images_per_second(result: Result) -> float:
    """The median over the epochs, but for the first, in which the graph is made."""
    return median(row["images_per_second"] for row in result.run.read_speeds()[1:])


def _examine(results: Results) -> Findings:
    sizes = {name: _size(name) for name in BUILDERS}
    speeds = {name: results.mean(name, _images_per_second) for name in TRAINED}
    found = {name: results.mean(name, test_error) for name in TRAINED}
    said = " ".join(
        f"{name} has {sizes[name].multiply_adds / sizes[RESNET].multiply_adds:.2f} times the "
        f"multiply-adds of {RESNET}, trains {speeds[name] / speeds[RESNET]:.2f} times as many "
        f"images a second, and its test error is {found[name]:.2f}%."
        for name in (RESNEXT, DENSENET)
    )
    return Findings(
        f"The test error of {RESNET} is {found[RESNET]:.2f}%. {said}",
        (
            Picture(
                "comparison",
                "Multiply-adds of one image of 224 pixels, images a second in training, and "
                "top-1 test error.",
                _bars(
                    {
                        "multiply-adds, 1e9": {
                            name: size.multiply_adds / 1e9 for name, size in sizes.items()
                        },
                        "training, images/s": speeds,
                        "test error, %": found,
                    }
                ),
            ),
            _table(results, sizes, speeds),
            "The paper has no figures of ResNeXt and DenseNet. The VGG networks are not trained "
            "here.",
        ),
    )


def _table(results: Results, sizes: Mapping[str, _Size], speeds: Mapping[str, float]) -> Table:
    return Table(
        "Parameters and multiply-adds are of 1,000 classes and 224x224 pixels, counted on "
        "the layers; speed and error are of the training here",
        (
            "network",
            "parameters",
            "multiply-adds, 1e9",
            "images/s",
            f"of {RESNET}'s",
            "test error, %",
            "paper: multiply-adds, 1e9",
            "paper: ten-crop error on ImageNet, %",
        ),
        tuple(
            (
                name,
                f"{size.parameters:,}",
                f"{size.multiply_adds / 1e9:.2f}",
                *_trained(results, name, speeds),
                *PAPER.get(name, ("", "")),
            )
            for name, size in sizes.items()
        ),
    )


def _trained(results: Results, name: str, speeds: Mapping[str, float]) -> tuple[str, str, str]:
    if name not in TRAINED:
        return "", "", ""
    return (
        spread([_images_per_second(result) for result in results.of(name)]),
        f"{speeds[name] / speeds[RESNET]:.2f}",
        results.spread(name, test_error),
    )


def _bars(panels: Mapping[str, Mapping[str, float]]) -> Figure:
    figure = Figure(figsize=(11, 3), layout="constrained")
    for axes, (title, values) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        bars = axes.barh(list(values), list(values.values()), color="#3b528b")
        axes.bar_label(bars, fmt="%.3g", padding=3)
        axes.set(title=title)
        axes.invert_yaxis()
        axes.margins(x=0.18)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


STUDY = Study(
    title="Comparison",
    source="He et al. 2016, sections 3.3 and 3.4",
    claim=(
        "A residual network of 50 layers needs a fifth of the multiply-adds of VGG-19. Its error "
        "is lower than that of VGG-16."
    ),
    seeds={"quick": 1, "full": 1},
    trainings=_trainings,
    examine=_examine,
)
