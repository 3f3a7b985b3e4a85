"""Residual networks of growing depth [He et al. 2016, table 6]."""

from collections.abc import Sequence

from resnet_keras.studies import errors
from resnet_keras.studies.errors import CIFAR10, Row
from resnet_keras.studies.figures import curves
from resnet_keras.studies.schedules import training
from resnet_keras.studies.study import (
    Findings,
    Results,
    Setting,
    Study,
    Training,
    test_error,
)

PAPER = {**CIFAR10, "resnet110": f"{CIFAR10['resnet110']} (6.61 ± 0.16)"}  # of five runs


def _trainings(setting: Setting, seed: int) -> Sequence[Training]:
    if setting.has_large_images:
        networks = ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]
    else:
        networks = ["resnet20", "resnet32", "resnet44", "resnet56"]
        if setting.scale == "full":
            networks += ["resnet110", "resnet1202"]
    return [training(network, setting, seed) for network in networks]


def _examine(results: Results) -> Findings:
    first, last = results.labels[0], results.labels[-1]
    best = errors.lowest(results, results.labels)
    gained = results.mean(first, test_error) - results.mean(last, test_error)
    return Findings(
        f"The test error of {first} is {results.mean(first, test_error):.2f}%, that of {last} "
        f"{results.mean(last, test_error):.2f}%. {best} has the lowest test error."
        + (
            ""
            if gained > 0
            else " Depth does not help on so little data, which the shallowest network learns."
        ),
        (
            errors.table(
                results, (Row(label, (PAPER.get(label, ""),)) for label in results.labels)
            ),
            curves(results, {"depth": results.labels}),
        ),
    )


STUDY = Study(
    title="Depth",
    source="He et al. 2016, table 6",
    claim="The error falls with depth up to 110 layers. With 1202 layers it rises, by overfitting.",
    seeds={"quick": 2, "full": 1},
    trainings=_trainings,
    examine=_examine,
)
