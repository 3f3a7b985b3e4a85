"""Units of a single layer, y = W1 x + x [He et al. 2016, section 3.2]."""

from collections.abc import Sequence

from resnet_keras.studies import errors
from resnet_keras.studies.errors import Row
from resnet_keras.studies.figures import curves
from resnet_keras.studies.schedules import training
from resnet_keras.studies.study import (
    TRAINING_ERROR,
    Claim,
    Findings,
    Quantity,
    Results,
    Setting,
    Study,
    Training,
    lower_error,
)

KINDS = (
    ("plain{}", "no shortcut"),
    ("resnet{}-single-layer", "units of one layer"),
    ("resnet{}", "units of two layers"),
)

ADVANTAGE = 2  # points of training error


def _trainings(setting: Setting, seed: int) -> Sequence[Training]:
    return [
        training(kind.format(depth), setting, seed)
        for depth in _depths(setting)
        for kind, _ in KINDS
    ]


def _depths(setting: Setting) -> tuple[int, ...]:
    return (44,) if setting.scale == "quick" else (20, 56, 110)


def _claims(setting: Setting) -> Sequence[Claim]:
    depth = _depths(setting)[-1]
    plain, single, double = (kind.format(depth) for kind, _ in KINDS)
    return (
        Claim(
            "Shortcuts over single layers have no advantage over no shortcuts.",
            Quantity(plain, TRAINING_ERROR),
            Quantity(single, TRAINING_ERROR),
            "below",
            ADVANTAGE,
        ),
        lower_error(
            double,
            plain,
            "Shortcuts over two layers lower the training error.",
            ADVANTAGE,
            TRAINING_ERROR,
        ),
    )


def _examine(results: Results) -> Findings:
    depths = _depths(results.setting)
    return Findings(
        (
            errors.table(
                results,
                [
                    Row(kind.format(depth), (), f"{depth} layers, {name}")
                    for depth in depths
                    for kind, name in KINDS
                ],
                (),
            ),
            "The paper prints no figures of such units.",
            curves(
                results,
                {f"{depth} layers": [kind.format(depth) for kind, _ in KINDS] for depth in depths},
            ),
        ),
    )


STUDY = Study(
    title="Units of a single layer",
    source="He et al. 2016, section 3.2",
    paper_claim=(
        "A unit of a single layer is similar to a linear layer, y = W1 x + x. The authors observe "
        "no advantage."
    ),
    seeds={"quick": 3, "full": 3},
    trainings=_trainings,
    claims=_claims,
    examine=_examine,
)
