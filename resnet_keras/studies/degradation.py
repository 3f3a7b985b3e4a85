"""The degradation problem: plain networks train worse as they grow deeper, residual ones do not."""

from collections.abc import Sequence

from resnet_keras.studies.errors import CIFAR10
from resnet_keras.studies.figures import CAPTION, curves
from resnet_keras.studies.schedules import training
from resnet_keras.studies.study import (
    TRAINING_ERROR,
    Claim,
    Findings,
    Results,
    Setting,
    Study,
    Table,
    Training,
    lower_error,
    test_error,
    training_error,
)

# Test error in per cent [1, table 6]; of ImageNet, validation top-1 by ten crops [1, table 2].
PAPER = {
    **CIFAR10,
    "plain110": "above 60",
    "plain18": "27.94",
    "resnet18-A": "27.88",
    "plain34": "28.54",
    "resnet34-A": "25.03",
}

RISES = 2  # points of training error
FALLS = 0.3  # points of test error


def _trainings(setting: Setting, seed: int) -> Sequence[Training]:
    if setting.has_large_images:  # [1, figure 4 and table 2]
        return [
            training(f"{kind}{depth}", setting, seed, "A" if kind == "resnet" else None)
            for depth in (18, 34)
            for kind in ("plain", "resnet")
        ]
    depths = (20, 44) if setting.scale == "quick" else (20, 32, 44, 56, 110)
    return [
        training(f"{kind}{depth}", setting, seed)
        for depth in depths
        for kind in ("plain", "resnet")
    ]


def _claims(setting: Setting) -> Sequence[Claim]:
    labels = [one.label for one in _trainings(setting, 0)]
    (plain, residual), (deep_plain, deep_residual) = labels[:2], labels[-2:]
    return (
        lower_error(
            plain,
            deep_plain,
            "The training error of plain networks rises with depth.",
            RISES,
            TRAINING_ERROR,
        ),
        lower_error(
            deep_residual,
            deep_plain,
            "At the greater depth, shortcuts lower the training error.",
            RISES,
            TRAINING_ERROR,
        ),
        lower_error(
            deep_residual,
            residual,
            "The test error of residual networks falls with depth.",
            FALLS,
        ),
    )


def _examine(results: Results) -> Findings:
    plain = [label for label in results.labels if label.startswith("plain")]
    residual = [label for label in results.labels if label.startswith("resnet")]
    rows = tuple(
        (
            label,
            results.spread(label, training_error),
            results.spread(label, test_error),
            PAPER.get(label, "in a figure only"),
        )
        for label in (*plain, *residual)
    )
    return Findings(
        (
            curves(
                results,
                {"plain": plain, "residual": residual},
                caption=f"{CAPTION}; the mean over the seeds. Left plain networks, right residual "
                "networks.",
            ),
            Table(
                "Top-1 error, %",
                ("network", "training", "test", "paper: test"),
                rows,
            ),
        ),
    )


STUDY = Study(
    title="Degradation",
    source="He et al. 2016, figures 1, 4 and 6, table 2",
    paper_claim=(
        "Deeper plain networks have a higher training error, so the cause is not overfitting. "
        "Residual networks gain from depth."
    ),
    seeds={"quick": 3, "full": 3},
    trainings=_trainings,
    claims=_claims,
    examine=_examine,
)
