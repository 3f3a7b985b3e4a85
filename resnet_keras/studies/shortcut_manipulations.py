"""What a shortcut may not do [Identity Mappings, table 1]."""

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


def _trainings(setting: Setting, seed: int) -> Sequence[Training]:
    return [training(f"{_network(setting)}{variant}", setting, seed) for _, variant, _ in KINDS]


def _network(setting: Setting) -> str:
    return "resnet32" if setting.scale == "quick" else "resnet110"


def _examine(results: Results) -> Findings:
    network = _network(results.setting)
    found = {name: results.mean(f"{network}{variant}", test_error) for name, variant, _ in KINDS}
    worse = [name for name in found if found[name] > found["original"]]
    worst = max(found, key=lambda name: found[name])
    return Findings(
        f"{len(worse)} of {len(KINDS) - 1} manipulations have a higher test error than the "
        f"identity shortcut, {found['original']:.2f}%. The highest is that of {worst}, "
        f"{found[worst]:.2f}%.",
        (
            errors.table(
                results,
                [Row(f"{network}{variant}", (paper,), name) for name, variant, paper in KINDS],
                ("paper: ResNet-110",),
            ),
            curves(results, {network: [f"{network}{variant}" for _, variant, _ in KINDS]}),
        ),
    )


STUDY = Study(
    title="What a shortcut may not do",
    source="He et al. 2016, Identity Mappings, table 1",
    claim="Every operation on the shortcut makes training harder. The identity shortcut is best.",
    seeds={"quick": 1, "full": 5},
    trainings=_trainings,
    examine=_examine,
)
