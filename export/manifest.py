"""parity.json: what an export folder holds, and how its files compare with Keras."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from resnet_keras.export.formats import FORMATS
from resnet_keras.export.parity import Parity
from resnet_keras.files import structured
from resnet_keras.files.atomic import write_text

MANIFEST = "parity.json"
ACCEPTED = "the file that export wrote, or another folder to export to"
# Held-out images and Keras's answers, for a check on another device.
CHECK = "check"
CHECK_ARRAYS = ("images", "labels", "probabilities")
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Exported:
    """One file, and what was found of it.

    Attributes:
        format: its name in `formats.FORMATS`.
        model: the fingerprint of the model that it was made of, class names and all.
        checksum: SHA-256 of its bytes; of a folder, of all its files'.
        megabytes: its size, in 10^6 bytes.
        parity: how it compares with Keras; None where its runtime does not run here.
        latency: median milliseconds of an answer to one image, in its runtime; None likewise.
        seconds: to make and compare it.
        memory: the peak of the process that did, in GB.
    """

    format: str
    model: str
    checksum: str
    megabytes: float
    parity: Parity | None
    latency: float | None
    seconds: float
    memory: float

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise ValueError(f"no format is called {self.format!r}")

    @property
    def file(self) -> str:
        return FORMATS[self.format].file


@dataclass(frozen=True)
class Manifest:
    """What an export folder holds.

    Attributes:
        name, description: of the model.
        model: the fingerprint of the one exported last.
        policy: in which it was trained.
        image_size: (height, width) in pixels.
        centre: of the view, see `card.ModelCard`.
        folded: the folded network's answers in Keras, beside those of the trained one in float32.
        keras_latency: milliseconds of Keras, likewise folded, for one image.
        files: in the order of `formats.FORMATS`.
        machine: where all this was measured.
        versions: of the packages.
    """

    name: str
    description: str
    model: str
    policy: str
    image_size: tuple[int, int]
    folded: Parity
    keras_latency: float
    files: tuple[Exported, ...]
    machine: str
    versions: dict[str, str]
    centre: float = 1.0


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Keeps them in an export folder."""
    content = {"format_version": FORMAT_VERSION, **asdict(manifest)}
    write_text(folder / MANIFEST, json.dumps(content, indent=2) + "\n")


def read_manifest(folder: Path) -> Manifest | None:
    """What an export folder tells of itself, or None if nothing was exported to it yet.

    Raises:
        InputError: it is damaged, or written by a later version.
    """
    path = folder / MANIFEST
    if not path.exists():
        return None
    content = structured.read_format(path, [FORMAT_VERSION], ACCEPTED, "format_version")
    del content["format_version"]
    return structured.convert(content, Manifest, path, ACCEPTED)


def checksum(path: Path) -> str:
    """SHA-256 of a file, or of a folder's files and their places in it."""
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            digest.update(str(file.relative_to(path)).encode())
            with file.open("rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()


def megabytes(path: Path) -> float:
    """The size of a file, or of a folder's files, in 10^6 bytes."""
    files = [path, *path.rglob("*")] if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file()) / 1e6
