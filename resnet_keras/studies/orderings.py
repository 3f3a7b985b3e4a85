"""Where BN and ReLU stand about a unit's convolutions [Identity Mappings, table 2]."""

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

# Name, variant, and the paper's error of ResNet-110 and ResNet-164, medians of five runs.
ORDERINGS = (
    ("original", "", "6.61", "5.93"),
    ("BN after addition", "-bn-after-addition", "8.17", "6.50"),
    ("ReLU before addition", "-relu-before-addition", "7.84", "6.14"),
    ("ReLU-only pre-activation", "-relu-only-preactivation", "6.71", "5.91"),
    ("full pre-activation", "-full-preactivation", "6.37", "5.46"),
)


def _trainings(setting: Setting, seed: int) -> Sequence[Training]:
    return [
        training(f"{network}{variant}", setting, seed)
        for network in _networks(setting)
        for _, variant, *_ in ORDERINGS
    ]


def _networks(setting: Setting) -> tuple[str, ...]:
    return ("resnet32",) if setting.scale == "quick" else ("resnet110", "resnet164")


def _examine(results: Results) -> Findings:
    networks = _networks(results.setting)
    base = networks[0]
    found = {name: results.mean(f"{base}{variant}", test_error) for name, variant, *_ in ORDERINGS}
    ranked = sorted(found, key=lambda name: found[name])
    gained = found["original"] - found["full pre-activation"]
    rows = [
        Row(f"{network}{variant}", (paper110, paper164), f"{network}: {name}")
        for network in networks
        for name, variant, paper110, paper164 in ORDERINGS
    ]
    return Findings(
        f"Of the five orderings in {base}, {ranked[0]} has the lowest test error and "
        f"{ranked[-1]} the highest. The test error of full pre-activation is {abs(gained):.2f} "
        f"points {'lower' if gained > 0 else 'higher'} than that of the original ordering.",
        (
            errors.table(results, rows, ("paper: ResNet-110", "paper: ResNet-164")),
            *(
                curves(
                    results,
                    {network: [f"{network}{variant}" for _, variant, *_ in ORDERINGS]},
                    f"curves-{network}",
                )
                for network in networks
            ),
        ),
    )


STUDY = Study(
    title="Orderings of a unit",
    source="He et al. 2016, Identity Mappings, table 2 (medians of five runs)",
    claim=(
        "Full pre-activation is the best of five orderings. BN after the addition, which changes "
        "the signal of the shortcut, is the worst."
    ),
    seeds={"quick": 2, "full": 5},
    trainings=_trainings,
    examine=_examine,
)
