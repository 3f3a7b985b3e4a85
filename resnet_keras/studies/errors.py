"""Tables of errors, which most studies end in."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from resnet_keras.architectures import find
from resnet_keras.studies.study import Results, Table, test_error, training_error

# Test errors in per cent [He et al. 2016, table 6].
CIFAR10 = {
    "resnet20": "8.75",
    "resnet32": "7.51",
    "resnet44": "7.17",
    "resnet56": "6.97",
    "resnet110": "6.43",
    "resnet1202": "7.93",
}


@dataclass(frozen=True)
class Row:
    """A network's row.

    Attributes:
        label: of its trainings.
        paper: the published errors, as they were printed.
        name: what the paper calls it, where that is not the label.
    """

    label: str
    paper: tuple[str, ...]
    name: str = ""


def table(results: Results, rows: Iterable[Row], paper: Sequence[str] = ("paper: test",)) -> Table:
    """Parameters and errors of networks, beside published ones.

    Args:
        results: of a study.
        rows: in their order.
        paper: heads of the columns with published errors.
    """
    return Table(
        "Top-1 error, %",
        ("network", "parameters", "training", "test", *paper),
        tuple(
            (
                row.name or row.label,
                f"{parameters(results, row.label):,}",
                results.spread(row.label, training_error),
                results.spread(row.label, test_error),
                *row.paper,
            )
            for row in rows
        ),
    )


def parameters(results: Results, label: str) -> int:
    """Trainable parameters of a network, as it was trained."""
    first = results.of(label)[0]
    details = first.run.read_details()
    architecture = find(first.training.network, first.training.shortcut)
    return architecture.parameters(len(details.class_names), details.image_size).trainable
