"""Options A, B and C of the shortcut [He et al. 2016, section 4.1 and table 3]."""

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
)

# Top-1 / top-5 of ImageNet's validation images by ten crops, of the 34-layer networks.
PAPER = {"plain": "28.54 / 10.02", "A": "25.03 / 7.76", "B": "24.52 / 7.46", "C": "24.19 / 7.40"}

CONSIDERABLE = 1  # points of test error


def _trainings(setting: Setting, seed: int) -> Sequence[Training]:
    depth = _depth(setting)
    return [
        training(f"plain{depth}", setting, seed),
        *(training(f"resnet{depth}", setting, seed, option) for option in "ABC"),
    ]


def _depth(setting: Setting) -> int:
    if setting.has_large_images:
        return 34
    return 20 if setting.scale == "quick" else 56


def _examine(results: Results) -> Findings:
    plain, *options = results.labels
    kinds = (plain, *options)
    found = {label: results.mean(label, test_error) for label in kinds}
    gained = found[plain] - max(found[label] for label in options)
    a, b, c = (f"{found[label]:.2f}" for label in options)
    return Findings(
        f"The test error of {plain} is {found[plain]:.2f}%. With options A, B and C the test error "
        f"is {a}%, {b}% and {c}%. "
        f"{'All' if gained > CONSIDERABLE else 'Not all'} three options are considerably "
        "better here. The paper's differences between A, B and C are tenths of a point, too small "
        "for so few images and seeds.",
        (
            errors.table(
                results,
                (
                    Row(label, (PAPER[key],), name)
                    for label, key, name in zip(
                        kinds,
                        ("plain", *"ABC"),
                        (plain, *(f"{one[:-2]}, option {one[-1]}" for one in options)),
                        strict=True,
                    )
                ),
                ("paper: 34 layers, top-1 / top-5",),
            ),
            curves(results, {"shortcut options": kinds}),
        ),
    )


STUDY = Study(
    title="Shortcut options",
    source="He et al. 2016, table 3",
    claim=(
        "All three options are considerably better than the plain network. B is slightly better "
        "than A, and C is marginally better than B, by the parameters of its projections."
    ),
    seeds={"quick": 3, "full": 1},
    trainings=_trainings,
    examine=_examine,
)
