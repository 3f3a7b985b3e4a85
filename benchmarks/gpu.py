"""ResNet-50 on one GPU: this package on JAX beside PyTorch, and the GPU's own ceilings.

    KERAS_BACKEND=jax python benchmarks/gpu.py

Needs Keras, JAX with CUDA and this package's sources; of PyTorch and timm (or torchvision) what is
there takes part. Images are uint8 on the device, and are normalised there. Each measurement is a
process of its own, and they take turns; times end when the device has finished.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measuring

sys.path.insert(0, str(Path(__file__).parents[1]))  # where the package is not installed

SIZE, CLASSES = 224, 1000
TRAINING_FLOPS = 3 * 2 * 3.858e9  # an image: forward, and both gradients; He et al. 2016, table 1
OURS, TORCH = "resnet_keras, JAX", "PyTorch, compiled"
BATCHES = (128, 256, 512)
PRECISIONS = ("bfloat16", "tensorfloat32", "float32", "float16")
STEPS, ROUNDS = 20, 5
SECONDS_AT_MOST = 300  # of one process


def ours(batch_size: int, precision: str) -> Callable[[int], None]:
    """A training step of `resnet_keras.ResNet50` on JAX, many of which run without the host."""
    import jax
    import keras

    import resnet_keras
    from resnet_keras.training import optimizers

    keras.config.set_dtype_policy(
        {"bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}.get(precision, "float32")
    )
    jax.config.update(
        "jax_default_matmul_precision", "highest" if precision == "float32" else "default"
    )
    model = resnet_keras.ResNet50(classes=CLASSES)
    # The wrapper that scales losses is compile's, for float16.
    model.compile(
        optimizers.SGD(0.1, momentum=0.9),
        "sparse_categorical_crossentropy",
        auto_scale_loss=precision == "float16",
    )
    keys = jax.random.split(jax.random.key(0))
    images = jax.random.randint(keys[0], (batch_size, SIZE, SIZE, 3), 0, 256).astype("uint8")
    labels = jax.random.randint(keys[1], (batch_size,), 0, CLASSES)
    step, state = step_of(model, images, labels)

    def run(number: int) -> None:
        nonlocal state
        for _ in range(number):
            state = step(state)
        jax.block_until_ready(state)

    return run


def step_of(model: Any, images: Any, labels: Any) -> tuple[Callable[[Any], Any], Any]:
    """What `fit` computes in a step, but for metrics, as a function of the state.

    Args:
        model: compiled.
        images, labels: a batch, on the device.

    Returns:
        The function, which takes the memory of the state it is given, and the state to start from:
        trainable variables, others, and the optimizer's.
    """
    import jax

    optimizer = model.optimizer
    optimizer.build(model.trainable_variables)
    scale = getattr(optimizer, "scale_loss", lambda loss: loss)

    def loss_of(trainable: Any, others: Any) -> Any:
        scores, others = model.stateless_call(trainable, others, images, training=True)
        return scale(model.compute_loss(y=labels, y_pred=scores)), others

    def step(state: Any) -> Any:
        trainable, others, of_optimizer = state
        (_, others), gradients = jax.value_and_grad(loss_of, has_aux=True)(trainable, others)
        trainable, of_optimizer = optimizer.stateless_apply(of_optimizer, gradients, trainable)
        return trainable, others, of_optimizer

    state = tuple(
        [variable.value for variable in variables]
        for variables in (
            model.trainable_variables,
            model.non_trainable_variables,
            optimizer.variables,
        )
    )
    return jax.jit(step, donate_argnums=0), state


def of_torch(batch_size: int, precision: str) -> Callable[[int], None]:
    """The same step of timm's or torchvision's ResNet-50: compiled, channels last."""
    import torch

    from resnet_keras.architectures import IMAGENET_PREPROCESSING

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision != "float32"
    torch.backends.cudnn.benchmark = True
    model = _torch_resnet50().cuda().train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, fused=True)
    scaler = torch.amp.GradScaler(enabled=precision == "float16")
    half = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(precision)
    images = torch.randint(256, (batch_size, SIZE, SIZE, 3), dtype=torch.uint8, device="cuda")
    labels = torch.randint(CLASSES, (batch_size,), device="cuda")
    mean, std = (
        torch.tensor(values, device="cuda").view(1, 3, 1, 1)
        for values in (IMAGENET_PREPROCESSING.mean, IMAGENET_PREPROCESSING.std)
    )

    @torch.compile(mode="max-autotune-no-cudagraphs")
    def loss_of() -> Any:
        pixels = (images.permute(0, 3, 1, 2).float() - mean) / std
        with torch.autocast("cuda", half or torch.bfloat16, enabled=half is not None):
            scores = model(pixels)
        return torch.nn.functional.cross_entropy(scores.float(), labels)

    def run(number: int) -> None:
        for _ in range(number):
            optimizer.zero_grad(set_to_none=True)
            scaler.scale(loss_of()).backward()
            scaler.step(optimizer)
            scaler.update()
        torch.cuda.synchronize()

    return run


def _torch_resnet50() -> Any:
    if importlib.util.find_spec("timm"):
        import timm  # pyright: ignore[reportMissingImports]

        return timm.create_model("resnet50")
    import torchvision  # pyright: ignore[reportMissingImports]

    return torchvision.models.resnet50()


def ceilings() -> dict[str, float]:
    """What the device reaches in products of large matrices (TFLOP/s) and in copies (GB/s)."""
    import jax
    import jax.numpy as jnp

    found = {}
    side = 8192
    for name, dtype, how in (
        ("bfloat16", jnp.bfloat16, "default"),
        ("float16", jnp.float16, "default"),
        ("tensorfloat32", jnp.float32, "tensorfloat32"),
        ("float32", jnp.float32, "highest"),
    ):
        a = jax.random.normal(jax.random.key(0), (side, side), dtype)
        product = jax.jit(lambda x, how=how: jnp.matmul(x, x, precision=how))
        found[name] = 2 * side**3 / _seconds(lambda p=product, x=a: p(x)) / 1e12
    wide = jnp.zeros((2**30,), jnp.float32)
    add = jax.jit(lambda x: x + 1)
    found["memory"] = 2 * wide.nbytes / _seconds(lambda: add(wide)) / 1e9
    return found


def _seconds(call: Callable[[], Any], times: int = 20) -> float:
    import jax

    result = jax.block_until_ready(call())
    start = time.perf_counter()
    for _ in range(times):
        result = call()
    jax.block_until_ready(result)
    return (time.perf_counter() - start) / times


def measure(what: str, batch_size: int = 0, precision: str = "") -> dict[str, Any]:
    """One measurement, in this process."""
    if what == "ceilings":
        return ceilings()
    run = {OURS: ours, TORCH: of_torch}[what](batch_size, precision)
    start = time.perf_counter()
    run(3)
    compiled = time.perf_counter() - start
    start = time.perf_counter()
    run(STEPS)
    seconds = time.perf_counter() - start
    return {"images_per_second": STEPS * batch_size / seconds, "first_steps": compiled}


def in_process(*arguments: Any) -> dict[str, Any]:
    """A measurement in a process of its own, or the end of what it said where it failed."""
    try:
        finished = subprocess.run(
            [sys.executable, __file__, measuring.WORKER, json.dumps(arguments)],
            capture_output=True,
            text=True,
            timeout=SECONDS_AT_MOST,
            env={**os.environ, "KERAS_BACKEND": "jax"},
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"took more than {SECONDS_AT_MOST} s"}
    if finished.returncode:
        return {"failed": finished.stderr.strip()[-500:]}
    return json.loads(finished.stdout.splitlines()[-1])


def main() -> None:
    """Measures all there is, and writes it after every measurement."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    if not importlib.util.find_spec("jax"):
        parser.exit(2, "gpu.py: error: it needs JAX with CUDA. Received: no jax\n")
    gpus = listed_gpus()
    if not gpus:
        parser.exit(2, "gpu.py: error: it needs an NVIDIA GPU. Received: none of nvidia-smi's\n")
    has_torch = importlib.util.find_spec("torch") and (
        importlib.util.find_spec("timm") or importlib.util.find_spec("torchvision")
    )
    peers = [OURS, TORCH] if has_torch else [OURS]
    content: dict[str, Any] = {
        "gpu": gpus[0],
        "ceilings": in_process("ceilings"),
        "measurements": [],
    }
    cases = [(size, "bfloat16") for size in BATCHES] + [(256, one) for one in PRECISIONS[1:]]
    for batch_size, precision in cases:
        for _ in range(ROUNDS):
            for peer in peers:
                found = in_process(peer, batch_size, precision)
                row = {"peer": peer, "batch_size": batch_size, "precision": precision, **found}
                content["measurements"].append(row)
                print(json.dumps(row), flush=True)
                measuring.write_results("gpu", **content)
        _summarize(content, batch_size, precision)


def _summarize(content: dict[str, Any], batch_size: int, precision: str) -> None:
    for peer in (OURS, TORCH):
        speeds = [
            row["images_per_second"]
            for row in content["measurements"]
            if (row["peer"], row["batch_size"], row["precision"]) == (peer, batch_size, precision)
            and "images_per_second" in row
        ]
        if speeds:
            median = statistics.median(speeds)
            ceiling = content["ceilings"].get(precision)
            share = f", {median * TRAINING_FLOPS / 1e12 / ceiling:.0%} of matrix" if ceiling else ""
            print(f"{peer}, {precision}, batch {batch_size}: {median:.0f} images/s{share}")


def listed_gpus() -> list[str]:
    """Names and drivers, as nvidia-smi tells them."""
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return []
    return listed.stdout.strip().splitlines()


if __name__ == "__main__":
    if arguments := measuring.worker_arguments():
        print(json.dumps(measure(*arguments)))
    else:
        main()
