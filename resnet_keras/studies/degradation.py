"""The degradation problem: plain networks train worse as they grow deeper, residual ones do not."""

from collections.abc import Sequence

from resnet_keras.studies.errors import CIFAR10
from resnet_keras.studies.figures import CAPTION, curves
from resnet_keras.studies.schedules import training
from resnet_keras.studies.study import (
    Findings,
    Results,
    Setting,
    Study,
    Table,
    Training,
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


def _trainings(setting: Setting, seed: int) -> Sequence[Training]:
    if setting.has_large_images:  # [1, figure 4 and table 2]
        return [
            training(f"{kind}{depth}", setting, seed, "A" if kind == "resnet" else None)
            for depth in (18, 34)
            for kind in ("plain", "resnet")
        ]
    depths = (20, 32, 44, 56) if setting.scale == "quick" else (20, 32, 44, 56, 110)
    return [
        training(f"{kind}{depth}", setting, seed)
        for depth in depths
        for kind in ("plain", "resnet")
    ]


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
        _verdict(results, plain, residual),
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


def _verdict(results: Results, plain: Sequence[str], residual: Sequence[str]) -> str:
    def growth(labels: Sequence[str]) -> float:
        return results.mean(labels[-1], training_error) - results.mean(labels[0], training_error)

    grown = {labels[-1]: growth(labels) for labels in (plain, residual)}
    said = " ".join(
        f"From {labels[0]} to {labels[-1]} the training error "
        f"{'rises' if grown[labels[-1]] > 0 else 'falls'} by {abs(grown[labels[-1]]):.1f} points."
        for labels in (plain, residual)
    )
    shows = grown[plain[-1]] > 2 and grown[plain[-1]] > 2 * grown[residual[-1]]
    if shows:
        return (
            f"Degradation shows. {said} As the training error rises, the cause is not overfitting."
        )
    return f"Degradation does not show here. {said}"


STUDY = Study(
    title="Degradation",
    source="He et al. 2016, figures 1, 4 and 6, table 2",
    claim=(
        "Deeper plain networks have a higher training error, so the cause is not overfitting. "
        "Residual networks gain from depth."
    ),
    seeds={"quick": 1, "full": 1},
    trainings=_trainings,
    examine=_examine,
)
