"""Where BN and ReLU stand about a unit's convolutions [Identity Mappings, table 2]."""

from collections.abc import Sequence

from resnet_keras.studies import errors
from resnet_keras.studies.errors import Row
from resnet_keras.studies.figures import curves
from resnet_keras.studies.schedules import training
from resnet_keras.studies.study import (
    Claim,
    Findings,
    Quantity,
    Results,
    Setting,
    Study,
    Training,
    lower_error,
)

# Name, variant, and the paper's error of ResNet-110 and ResNet-164, medians of five runs.
ORDERINGS = (
    ("original", "", "6.61", "5.93"),
    ("BN after addition", "-bn-after-addition", "8.17", "6.50"),
    ("ReLU before addition", "-relu-before-addition", "7.84", "6.14"),
    ("ReLU-only pre-activation", "-relu-only-preactivation", "6.71", "5.91"),
    ("full pre-activation", "-full-preactivation", "6.37", "5.46"),
)

WORSE = 0.3  # points of test error
ALIKE = 0.5


def _trainings(setting: Setting, seed: int) -> Sequence[Training]:
    return [
        training(f"{network}{variant}", setting, seed)
        for network in _networks(setting)
        for _, variant, *_ in ORDERINGS
    ]


def _networks(setting: Setting) -> tuple[str, ...]:
    return ("resnet20",) if setting.scale == "quick" else ("resnet110", "resnet164")


def _claims(setting: Setting) -> Sequence[Claim]:
    return [claim for network in _networks(setting) for claim in _claims_of(network)]


def _claims_of(network: str) -> Sequence[Claim]:
    def worse(ordering: str) -> Claim:
        variant = next(variant for name, variant, *_ in ORDERINGS if name == ordering)
        text = f"{network}: {ordering} has a higher test error than the original ordering."
        return lower_error(network, f"{network}{variant}", text, WORSE)

    return (
        lower_error(
            f"{network}-full-preactivation",
            network,
            f"{network}: full pre-activation has a lower test error than the original ordering.",
        ),
        worse("BN after addition"),
        worse("ReLU before addition"),
        Claim(
            f"{network}: ReLU-only pre-activation is as good as the original ordering.",
            Quantity(f"{network}-relu-only-preactivation"),
            Quantity(network),
            "below",
            ALIKE,
        ),
    )


def _examine(results: Results) -> Findings:
    networks = _networks(results.setting)
    rows = [
        Row(f"{network}{variant}", (paper110, paper164), f"{network}: {name}")
        for network in networks
        for name, variant, paper110, paper164 in ORDERINGS
    ]
    return Findings(
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
    paper_claim=(
        "Full pre-activation is the best of five orderings. BN after the addition, which changes "
        "the signal of the shortcut, is the worst."
    ),
    seeds={"quick": 4, "full": 5},
    trainings=_trainings,
    claims=_claims,
    examine=_examine,
)
