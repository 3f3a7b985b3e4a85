"""State dicts in files of torch, out of whatever a training script has saved around them."""

import re
import warnings
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np

from resnet_keras.errors import InputError
from resnet_keras.weights.limits import check_size, unreadable
from resnet_keras.weights.variants import (
    TIMM_ARGUMENTS,
    TIMM_SCRIPT,
    check_stated,
    check_torch_architecture,
    stated_in,
)

# Beneath these a training script keeps what it saves; averages of the weights come first, as in
# timm, since they are what is published.
_NESTS = ("state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model", "module")
_DEPTH = 3  # of one beneath the other: a pickle may hold itself

# Before the names: of DataParallel, of torch.compile, of the attribute in Lightning's modules.
_WRAPPERS = ("module.", "_orig_mod.", "model.")

# Entries of a state dict that are no weights: of AveragedModel.
_COUNTERS = ("n_averaged",)

_NO_ARCHITECTURE = "resnet"  # what timm states where it knows no more than the class


def read(path: Path) -> tuple[dict[str, np.ndarray], str | None]:
    """The arrays of a torch network, float32, without the wrappers' prefixes.

    Returns:
        The arrays by name, and the key that they were under where there were several.

    Raises:
        InputError: torch is not installed; the file holds code, or no state dict, or one of another
            network by what it states; or it is damaged.
    """
    content = _loaded(path)
    with stated_in(path):
        _check_stated(content)
    state, taken = _state_dict(content)
    return _arrays(path, state), taken


def _loaded(path: Path) -> Mapping[Any, Any]:
    with path.open("rb") as file:
        start = file.read(4)
    if not start.startswith((b"PK", b"\x80")):  # a zip file, or the pickle of earlier versions
        raise _no_state_dict(path, f"a file that begins with {start!r}")
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        raise InputError(
            f"torch, which reads {path.suffix} files, is not installed",
            received=path,
            accepted="pip install torch, or the weights as .safetensors",
        ) from error
    try:
        # Arguments of a training script are often saved with its weights. Warnings are of what is
        # about to be refused.
        with (
            torch.serialization.safe_globals([Namespace]),
            warnings.catch_warnings(action="ignore"),
        ):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:  # of anything but arrays
        code = re.search(r"GLOBAL (\S+) was not", str(error))
        raise InputError(
            "the file holds code, which is not run, or no weights at all",
            received=f"{path} ({code[1]})" if code else path,
            accepted="a state_dict saved by torch.save",
        ) from error
    except Exception as error:  # pickle may raise anything on bytes that are no pickle
        raise unreadable(path, error) from error
    if not isinstance(content, Mapping):
        raise _no_state_dict(path, f"a {type(content).__name__}")
    return content


def _check_stated(content: Mapping[Any, Any]) -> None:
    """The architecture that timm's and torchvision's scripts save beside the weights."""
    architecture = content.get("arch")
    if isinstance(architecture, str) and architecture != _NO_ARCHITECTURE:
        check_torch_architecture(architecture, "the checkpoint's 'arch'")
    arguments = content.get("args")
    if isinstance(arguments, Namespace):
        check_stated(vars(arguments), TIMM_SCRIPT)
        check_stated(vars(arguments).get("model_kwargs") or {}, TIMM_ARGUMENTS)


def _state_dict(content: Mapping[Any, Any]) -> tuple[Mapping[Any, Any], str | None]:
    """The innermost dict, and which one it is where there are several side by side."""
    taken = None
    for _ in range(_DEPTH):
        nests = [nest for nest in _NESTS if isinstance(content.get(nest), Mapping)]
        if not nests:
            break
        content = content[nests[0]]
        if len(nests) > 1:
            taken = f"{nests[0]!r}, not {' or '.join(repr(nest) for nest in nests[1:])}"
    return content, taken


def _arrays(path: Path, state: Mapping[Any, Any]) -> dict[str, np.ndarray]:
    import torch  # pyright: ignore[reportMissingImports]

    tensors = {
        name: tensor
        for name, tensor in state.items()
        if isinstance(name, str) and isinstance(tensor, torch.Tensor) and name not in _COUNTERS
    }
    if not tensors:
        raise _no_state_dict(
            path, f"a dict of {', '.join(map(repr, list(state)[:3])) or 'nothing'}"
        )
    # A tensor may repeat few bytes many times.
    check_size(path, sum(4 * tensor.numel() for tensor in tensors.values()))
    arrays = {}
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized:
            raise _no_state_dict(path, f"{name}, which is sparse, quantised or without values")
        if tensor.is_complex():
            raise _no_state_dict(path, f"{name}, which is complex")
        plain = _unwrapped(name)
        if plain in arrays:
            raise _no_state_dict(path, f"{plain} twice, with different prefixes")
        arrays[plain] = tensor.detach().to(torch.float32).numpy()
    return arrays


def _unwrapped(name: str) -> str:
    while wrapper := next((one for one in _WRAPPERS if name.startswith(one)), None):
        name = name.removeprefix(wrapper)
    return name


def _no_state_dict(path: Path, found: str) -> InputError:
    return InputError(
        "the file has no state_dict of a network",
        received=f"{found}, in {path}",
        accepted="a dict of tensors by name, or one beneath 'state_dict' or 'model'",
    )
