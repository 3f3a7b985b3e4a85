"""What precision and compilation suit this machine, and why.

`decide` is a pure function of a `Machine`, so that every machine's case is a row in a test.
"""

import os
import platform
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from resnet_keras import recipes
from resnet_keras.errors import InputError

BFLOAT16_CPU_FEATURES = {"avx512_bf16": "AVX512-BF16", "amx_bf16": "AMX"}


@dataclass(frozen=True)
class Machine:
    """What a decision about precision needs to know.

    Attributes:
        backend: Keras's: "tensorflow", "jax" or "torch".
        accelerator: what Keras computes on.
        compute_capabilities: (major, minor) of every GPU; None for one that tells none.
        cpu_features: the processor's, as Linux spells them, such as "avx512_bf16".
        devices: names of the accelerators, such as "NVIDIA H200"; unknown names are left out.
    """

    backend: str
    accelerator: Literal["cpu", "gpu", "tpu"] = "cpu"
    compute_capabilities: tuple[tuple[int, int] | None, ...] = ()
    cpu_features: frozenset[str] = frozenset()
    devices: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.accelerator == "cpu":
            return f"{os.cpu_count()} CPU cores, {platform.machine()}"
        names = Counter(self.devices or (self.accelerator.upper(),))
        return ", ".join(name if n == 1 else f"{n} x {name}" for name, n in names.items())


@dataclass(frozen=True)
class Precision:
    """A decision.

    Attributes:
        policy: a Keras dtype policy.
        jit_compile: whether to compile with XLA; "auto" leaves it to Keras.
        reason: why, in a few words.
    """

    policy: str
    jit_compile: bool | Literal["auto"]
    reason: str

    @property
    def loss_scaling(self) -> bool:
        """Whether gradients would vanish unscaled: float16 has few exponent bits.

        Keras's `compile` wraps the optimizer accordingly.
        """
        return self.policy == "mixed_float16"

    def __str__(self) -> str:
        scaled = " with loss scaling" if self.loss_scaling else ""
        xla = {True: "on", False: "off", "auto": "as Keras decides"}[self.jit_compile]
        return f"{self.policy}{scaled} ({self.reason}); XLA {xla}"


def decide(machine: Machine, requested: str = "auto") -> Precision:
    """Chooses a dtype policy and whether to compile with XLA.

    Args:
        machine: what to decide for.
        requested: "auto", or a policy that is then taken as it is.

    Raises:
        InputError: `requested` is neither.
    """
    policy, reason = _best(machine)
    if requested not in get_args(recipes.Precision):
        raise InputError(
            "unknown precision",
            received=repr(requested),
            accepted=", ".join(get_args(recipes.Precision)),
        )
    if requested == policy:
        reason = f"requested, {reason}"
    elif requested != "auto":
        reason = f"requested; {policy} is faster here: {reason}"
        policy = requested
    return Precision(policy, _jit_compile(machine), reason)


def _best(machine: Machine) -> tuple[str, str]:
    if machine.accelerator == "tpu":
        return "mixed_bfloat16", "TPU"
    if machine.accelerator == "gpu":
        return _best_on_gpu(machine.compute_capabilities)
    for feature, name in BFLOAT16_CPU_FEATURES.items():
        if feature in machine.cpu_features:
            return "mixed_bfloat16", f"CPU with {name}"
    if not machine.cpu_features:
        return "float32", "CPU that tells no features"
    return "float32", "CPU without AVX512-BF16 or AMX"


def _best_on_gpu(capabilities: tuple[tuple[int, int] | None, ...]) -> tuple[str, str]:
    known = [capability for capability in capabilities if capability is not None]
    if not known or len(known) < len(capabilities):
        return "float32", "GPU that tells no compute capability"
    weakest = min(known)
    reason = f"GPU of compute capability {weakest[0]}.{weakest[1]}"
    if weakest >= (8, 0):
        return "mixed_bfloat16", reason
    if weakest >= (7, 0):
        return "mixed_float16", reason
    return "float32", f"{reason}, without fast half precision"


def _jit_compile(machine: Machine) -> bool | Literal["auto"]:
    if machine.backend == "jax":
        return "auto"
    if machine.accelerator == "cpu":
        return False  # With TensorFlow on a CPU, XLA trained ResNet-50 2.7 times slower.
    # Keras itself knows which strategies over several devices, and which GPUs, XLA cannot serve.
    is_one_known_gpu = len(machine.compute_capabilities) == 1 and all(machine.compute_capabilities)
    return True if is_one_known_gpu else "auto"


def describe_machine() -> Machine:
    """Describes the machine that Keras computes on, under its current backend."""
    import keras

    backend = keras.backend.backend()
    features = _cpu_features()
    if backend == "tensorflow":
        return _describe_tensorflow(features)
    if backend == "jax":
        return _describe_jax(features)
    return Machine(backend, cpu_features=features)


def _describe_tensorflow(features: frozenset[str]) -> Machine:
    import tensorflow as tf

    gpus = tf.config.get_visible_devices("GPU")
    if gpus:
        details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
        capabilities = tuple(one.get("compute_capability") for one in details)
        names = tuple(one.get("device_name", "GPU") for one in details)
        return Machine("tensorflow", "gpu", capabilities, features, names)
    accelerator = "tpu" if tf.config.get_visible_devices("TPU") else "cpu"
    return Machine("tensorflow", accelerator, cpu_features=features)


def _describe_jax(features: frozenset[str]) -> Machine:
    import jax  # pyright: ignore[reportMissingImports]

    accelerator = jax.default_backend()
    if accelerator == "gpu":
        capabilities = tuple(
            _parse_capability(getattr(device, "compute_capability", None))
            for device in jax.devices()
        )
        names = tuple(device.device_kind for device in jax.devices())
        return Machine("jax", "gpu", capabilities, features, names)
    return Machine("jax", "tpu" if accelerator == "tpu" else "cpu", cpu_features=features)


def _parse_capability(capability: str | None) -> tuple[int, int] | None:
    try:
        major, minor = (capability or "").split(".")
        return int(major), int(minor)
    except ValueError:
        return None


def _cpu_features() -> frozenset[str]:
    if platform.system() != "Linux":
        return frozenset()
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()
