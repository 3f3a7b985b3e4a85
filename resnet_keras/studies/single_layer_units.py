"""Units of a single layer, y = W1 x + x [He et al. 2016, section 3.2]."""

from collections.abc import Sequence

from resnet_keras.studies import errors
from resnet_keras.studies.errors import Row
from resnet_keras.studies.figures import curves
from resnet_keras.studies.schedules import training
from resnet_keras.studies.study import (
    Findings,
    Results,
    Setting,
    Study,
    Training,
    test_error,
    training_error,
)

KINDS = (
    ("plain{}", "no shortcut"),
    ("resnet{}-single-layer", "units of one layer"),
    ("resnet{}", "units of two layers"),
)

ADVANTAGE = 2  # points of training error, that the deepest networks must lie apart


def _trainings(setting: Setting, seed: int) -> Sequence[Training]:
    return [
        training(kind.format(depth), setting, seed)
        for depth in _depths(setting)
        for kind, _ in KINDS
    ]


def _depths(setting: Setting) -> tuple[int, ...]:
    return (20, 44) if setting.scale == "quick" else (20, 56, 110)


def _examine(results: Results) -> Findings:
    depths = _depths(results.setting)
    said = []
    for depth in depths:
        plain, single, double = (kind.format(depth) for kind, _ in KINDS)
        said.append(
            f"With {depth} layers the training error is "
            f"{results.mean(plain, training_error):.2f}% without shortcuts, "
            f"{results.mean(single, training_error):.2f}% with shortcuts over one layer and "
            f"{results.mean(double, training_error):.2f}% over two layers. The test errors are "
            f"{results.mean(plain, test_error):.2f}%, {results.mean(single, test_error):.2f}% and "
            f"{results.mean(double, test_error):.2f}%."
        )
    plain, single, _ = (results.mean(kind.format(depths[-1]), training_error) for kind, _ in KINDS)
    helps = "help here, unlike in the paper" if plain - single > ADVANTAGE else "do not help here"
    return Findings(
        f"Shortcuts over single layers {helps}. {' '.join(said)}",
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
    claim=(
        "A unit of a single layer is similar to a linear layer, y = W1 x + x. The authors observe "
        "no advantage."
    ),
    seeds={"quick": 2, "full": 1},
    trainings=_trainings,
    examine=_examine,
)
