"""What a shortcut may not do [Identity Mappings, table 1]."""

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

FAILS = "fails to converge"
# Name, variant, and the paper's error of ResNet-110.
KINDS = (
    ("original", "", "6.61"),
    ("constant scaling, 0.5 on both", "-constant-scaling", "12.35"),
    ("constant scaling, 0.5 on the shortcut alone", "-shortcut-scaling", FAILS),
    ("exclusive gating, bias 0", "-exclusive-gating-0", FAILS),
    ("exclusive gating, bias -6", "-exclusive-gating-6", "8.70"),
    ("exclusive gating, bias -7", "-exclusive-gating-7", "9.81"),
    ("shortcut-only gating, bias 0", "-shortcut-gating-0", "12.86"),
    ("shortcut-only gating, bias -6", "-shortcut-gating-6", "6.91"),
    ("1x1 convolution", "-conv-shortcut", "12.22"),
    ("dropout 0.5", "-dropout-shortcut", FAILS),
)

IN_FULL = ("-exclusive-gating-0", "-exclusive-gating-7", "-shortcut-gating-6")  # only
WORSE = 0.3  # points of test error


def _trainings(setting: Setting, seed: int) -> Sequence[Training]:
    network = _network(setting)
    return [training(f"{network}{variant}", setting, seed) for _, variant, _ in _kinds(setting)]


def _kinds(setting: Setting) -> list[tuple[str, str, str]]:
    return [kind for kind in KINDS if setting.scale == "full" or kind[1] not in IN_FULL]


def _network(setting: Setting) -> str:
    return "resnet20" if setting.scale == "quick" else "resnet110"


def _claims(setting: Setting) -> Sequence[Claim]:
    network = _network(setting)
    return [
        lower_error(
            network,
            f"{network}{variant}",
            f"{name[0].upper()}{name[1:]}: the test error is higher than with the identity.",
            WORSE,
        )
        for name, variant, _ in _kinds(setting)[1:]
    ]


def _examine(results: Results) -> Findings:
    network, kinds = _network(results.setting), _kinds(results.setting)
    return Findings(
        (
            errors.table(
                results,
                [Row(f"{network}{variant}", (paper,), name) for name, variant, paper in kinds],
                ("paper: ResNet-110",),
            ),
            curves(results, {network: [f"{network}{variant}" for _, variant, _ in kinds]}),
        ),
    )


STUDY = Study(
    title="What a shortcut may not do",
    source="He et al. 2016, Identity Mappings, table 1",
    paper_claim=(
        "Every operation on the shortcut makes training harder. The identity shortcut is best."
    ),
    seeds={"quick": 3, "full": 5},
    trainings=_trainings,
    claims=_claims,
    examine=_examine,
)
