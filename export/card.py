"""What an exported file says of its model."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from resnet_keras.view import View

LABELS = "labels.txt"


@dataclass(frozen=True)
class ModelCard:
    """What every format writes into its file, as far as it can.

    Attributes:
        name: of the network, such as "resnet50".
        description: one line: what it tells apart, what it was trained on.
        class_names: in the order of the model's outputs.
        centre: sides of the centre piece of a picture that the model is shown over those of the
            largest one, see `resnet_keras.view.View`.
    """

    name: str
    description: str
    class_names: tuple[str, ...]
    centre: float = 1.0

    def view(self, height: int, width: int, channels: int = 3) -> View:
        """What the model is shown of a picture, by the size of its input."""
        return View(height, width, self.centre, channels)

    def view_as_json(self, shape: Sequence[int]) -> str:
        """The view as files carry it, by the input's shape (batch, height, width, channels)."""
        return json.dumps(asdict(self.view(*shape[1:])))

    @property
    def labels(self) -> str:
        """The content of labels.txt: a class a line, in the order of the model's outputs."""
        return "".join(f"{name}\n" for name in self.class_names)
