"""What an exported file says of its model."""

from dataclasses import dataclass

LABELS = "labels.txt"


@dataclass(frozen=True)
class ModelCard:
    """What every format writes into its file, as far as it can.

    Attributes:
        name: of the network, such as "resnet50".
        description: one line: what it tells apart, what it was trained on.
        class_names: in the order of the model's outputs.
        centre: which part of the shorter side of a picture the model is shown.
    """

    name: str
    description: str
    class_names: tuple[str, ...]
    centre: float = 1.0

    @property
    def labels(self) -> str:
        """The content of labels.txt: a class a line, in the order of the model's outputs."""
        return "".join(f"{name}\n" for name in self.class_names)
