"""Residual networks of growing depth [He et al. 2016, table 6]."""

from collections.abc import Sequence
from itertools import pairwise

from resnet_keras.studies import errors
from resnet_keras.studies.errors import CIFAR10, Row
from resnet_keras.studies.figures import curves
from resnet_keras.studies.schedules import training
from resnet_keras.studies.study import (
    Claim,
    Findings,
    Results,
    Setting,
    Study,
    Training,
    lower_error,
)

PAPER = {**CIFAR10, "resnet110": f"{CIFAR10['resnet110']} (6.61 ± 0.16)"}  # of five runs

COUNTS = 0.3  # points of test error


def _trainings(setting: Setting, seed: int) -> Sequence[Training]:
    return [training(f"resnet{depth}", setting, seed) for depth in _depths(setting)]


def _depths(setting: Setting) -> tuple[int, ...]:
    if setting.has_large_images:
        return (18, 34, 50, 101, 152)
    return (8, 20, 44) if setting.scale == "quick" else (20, 32, 44, 56, 110, 1202)


def _compared(setting: Setting) -> tuple[int, ...]:
    if setting.has_large_images:
        return (18, 50, 152)
    return _depths(setting) if setting.scale == "quick" else (20, 56, 110)


def _claims(setting: Setting) -> Sequence[Claim]:
    claims = [
        lower_error(
            f"resnet{deeper}",
            f"resnet{shallower}",
            f"{deeper} layers have a lower test error than {shallower}.",
            COUNTS,
        )
        for shallower, deeper in pairwise(_compared(setting))
    ]
    if _depths(setting)[-1] == 1202:
        text = "1202 layers have a higher test error than 110."
        claims.append(lower_error("resnet110", "resnet1202", text, COUNTS))
    return claims


def _examine(results: Results) -> Findings:
    return Findings(
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
    paper_claim=(
        "The error falls with depth up to 110 layers. With 1202 layers it rises, by overfitting."
    ),
    seeds={"quick": 5, "full": 3},
    trainings=_trainings,
    claims=_claims,
    examine=_examine,
)
