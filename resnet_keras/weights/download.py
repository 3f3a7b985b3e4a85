"""Weights of networks trained on ImageNet, fetched from where they are published."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from resnet_keras.errors import InputError, first_sentence

IMAGENET = "imagenet"
BUCKET = "https://storage.googleapis.com/tensorflow/keras-applications/resnet"
HUB = "https://huggingface.co"


@dataclass(frozen=True)
class KerasFile:
    """A file of keras.applications, and the MD5 that Keras publishes of it."""

    name: str
    md5: str

    @property
    def address(self) -> str:
        return f"{BUCKET}/{self.name}"


@dataclass(frozen=True)
class HubFile:
    """A file on the Hugging Face hub, which tells its SHA-256 itself."""

    repository: str
    name: str = "model.safetensors"

    @property
    def address(self) -> str:
        return f"{HUB}/{self.repository}/resolve/main/{self.name}"


# keras.applications' are v1; torchvision's, which timm keeps on the hub, v1.5.
PUBLISHED: dict[str, KerasFile | HubFile] = {
    "resnet18": HubFile("timm/resnet18.tv_in1k"),
    "resnet34": HubFile("timm/resnet34.tv_in1k"),
    "resnet50": KerasFile(
        "resnet50_weights_tf_dim_ordering_tf_kernels.h5", "2cb95161c43110f7111970584f804107"
    ),
    "resnet101": KerasFile(
        "resnet101_weights_tf_dim_ordering_tf_kernels.h5", "f1aeb4b969a6efcfb50fad2f0c20cfc5"
    ),
    "resnet152": KerasFile(
        "resnet152_weights_tf_dim_ordering_tf_kernels.h5", "100835be76be38e30d865e96f2aaae62"
    ),
    "resnet50v1.5": HubFile("timm/resnet50.tv_in1k"),
    "resnet101v1.5": HubFile("timm/resnet101.tv_in1k"),
    "resnet152v1.5": HubFile("timm/resnet152.tv_in1k"),
    "resnext50-32x4d": HubFile("timm/resnext50_32x4d.tv_in1k"),
}


def check_published(network: str) -> None:
    """Raises InputError if no weights are published of a network."""
    if network not in PUBLISHED:
        raise InputError(
            "no weights on ImageNet are published of this network",
            received=repr(network),
            accepted=", ".join(PUBLISHED),
        )


def fetch(network: str) -> Path:
    """Fetches a network's weights, or finds them in the cache of an earlier time.

    Keras's cache is ~/.keras (KERAS_HOME), the hub's ~/.cache/huggingface (HF_HOME).

    Args:
        network: its name.

    Returns:
        A file whose checksum is right.

    Raises:
        InputError: none are published of this network, the place cannot be reached, what came is
            not what was published, or huggingface_hub is not installed.
    """
    check_published(network)
    published = PUBLISHED[network]
    if isinstance(published, KerasFile):
        return _from_keras(published)
    return _from_hub(published)


def _from_keras(file: KerasFile) -> Path:
    import keras

    try:
        return Path(
            keras.utils.get_file(file.name, file.address, cache_subdir="models", file_hash=file.md5)
        )
    except Exception as error:  # Keras raises nothing more special when it cannot connect
        raise _unreachable(file, error) from error


def _from_hub(file: HubFile) -> Path:
    try:
        from huggingface_hub import hf_hub_download
    except ModuleNotFoundError as error:
        raise InputError(
            "huggingface_hub, which downloads the weights, is not installed",
            received=file.address,
            accepted="pip install huggingface_hub, or the path of this file downloaded by yourself",
        ) from error
    try:
        path = Path(hf_hub_download(file.repository, file.name))
    except (OSError, ValueError) as error:
        raise _unreachable(file, error) from error
    _check_blob(path)
    return path


def _check_blob(path: Path) -> None:
    """The hub's cache calls a file by its SHA-256, where links can be made."""
    published = path.resolve().name
    if not re.fullmatch("[0-9a-f]{64}", published):
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != published:
        raise InputError(
            "the file is not what was published",
            received=f"{path.resolve()} with SHA-256 {found}",
            accepted="the published file: delete this one, and it is fetched again",
        )


def _unreachable(file: KerasFile | HubFile, error: Exception) -> InputError:
    return InputError(
        "the weights cannot be fetched",
        received=f"{file.address} ({first_sentence(error)})",
        accepted="a connection; without one, download this file elsewhere, copy it here "
        "and name the file instead",
    )
