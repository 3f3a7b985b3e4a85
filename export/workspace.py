"""What a conversion works from: a folder that the exporting process fills and the others read."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from resnet_keras.export.card import ModelCard
from resnet_keras.export.parity import Parity
from resnet_keras.files import structured

T = TypeVar("T")

PREPARE = "prepare"  # the step before those that bear a format's name
ACCEPTED = "the file that this export wrote"
REFUSED = 2  # exit status of a step: the last line of its log tells why


@dataclass(frozen=True)
class Made:
    """What the step of a format has measured, see `manifest.Exported`."""

    parity: Parity | None
    latency: float | None
    seconds: float
    memory: float


@dataclass(frozen=True)
class Prepared:
    """What the first step has found, see `manifest.Manifest`."""

    parity: Parity
    latency: float
    policy: str
    seconds: float
    memory: float


@dataclass(frozen=True)
class Workspace:
    """The folder's files.

    Attributes:
        folder: where they are.
    """

    folder: Path

    @property
    def model(self) -> Path:
        """As it was trained."""
        return self.folder / "model.keras"

    @property
    def inference_model(self) -> Path:
        """As it is converted, see folding.py."""
        return self.folder / "inference_model.keras"

    def made(self, file: str) -> Path:
        """Where a format's file is written."""
        return self.folder / "made" / file

    def finding(self, step: str) -> Path:
        """What a step has measured, as JSON."""
        return self.folder / f"{step}.json"

    def log(self, step: str) -> Path:
        """What a step has said."""
        return self.folder / f"{step}.log"

    def write_card(self, card: ModelCard) -> None:
        (self.folder / "card.json").write_text(json.dumps(asdict(card)), "utf-8")

    def read_card(self) -> ModelCard:
        return structured.read(self.folder / "card.json", ModelCard, ACCEPTED)

    def read_finding(self, step: str, kind: type[T]) -> T:
        """What a step has measured: `Prepared`, or of a format `Made`."""
        return structured.read(self.finding(step), kind, ACCEPTED)

    def write_array(self, name: str, array: np.ndarray) -> None:
        np.save(self.folder / f"{name}.npy", array)

    def read_array(self, name: str) -> np.ndarray:
        return np.load(self.folder / f"{name}.npy")
