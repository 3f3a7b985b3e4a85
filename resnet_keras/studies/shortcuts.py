"""Options A, B and C of the shortcut [He et al. 2016, section 4.1 and table 3]."""

from collections.abc import Sequence

from resnet_keras.studies import errors
from resnet_keras.studies.errors import Row
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

# Top-1 / top-5 of ImageNet's validation images by ten crops, of the 34-layer networks.
PAPER = {"plain": "28.54 / 10.02", "A": "25.03 / 7.76", "B": "24.52 / 7.46", "C": "24.19 / 7.40"}

CONSIDERABLE = 1  # points of test error
SLIGHT = 0.1


def _trainings(setting: Setting, seed: int) -> Sequence[Training]:
    depth = _depth(setting)
    return [
        training(f"plain{depth}", setting, seed),
        *(training(f"resnet{depth}", setting, seed, option) for option in "ABC"),
    ]


def _depth(setting: Setting) -> int:
    if setting.has_large_images:
        return 34
    return 32 if setting.scale == "quick" else 56


def _claims(setting: Setting) -> Sequence[Claim]:
    plain, *options = (one.label for one in _trainings(setting, 0))
    a, b, c = options
    return (
        *(
            lower_error(
                option,
                plain,
                f"Option {option[-1]} has a considerably lower test error than the plain network.",
                CONSIDERABLE,
            )
            for option in options
        ),
        lower_error(b, a, "Option B has a slightly lower test error than A.", SLIGHT),
        lower_error(c, b, "Option C has a slightly lower test error than B.", SLIGHT),
    )


def _examine(results: Results) -> Findings:
    kinds = plain, *options = results.labels
    return Findings(
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
    paper_claim=(
        "All three options are considerably better than the plain network. B is slightly better "
        "than A, and C is marginally better than B, by the parameters of its projections."
    ),
    seeds={"quick": 3, "full": 3},
    trainings=_trainings,
    claims=_claims,
    examine=_examine,
)
