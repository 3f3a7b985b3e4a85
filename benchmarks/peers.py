"""Training steps of the peers, each for the process of a `measuring.Worker`.

A peer is a function that takes a `Task`, and gives the function that makes so many steps.
"""

import importlib.util
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import measuring

OURS = "resnet_keras"
APPLICATIONS = "keras.applications"
APPLICATIONS_ONEDNN = "keras.applications, oneDNN on"
STOCK_LAYERS = "stock layers"
STOCK_LAYERS_ONEDNN = "stock layers, oneDNN on"
TORCH = "PyTorch"
TORCH_COMPILED = "PyTorch, compiled"
CONVOLUTIONS = "convolutions alone"

# TensorFlow by itself leaves oneDNN off where there is no AVX-512.
ENVIRONMENTS: dict[str, dict[str, str | None]] = {
    APPLICATIONS: {"TF_ENABLE_ONEDNN_OPTS": None},
    STOCK_LAYERS: {"TF_ENABLE_ONEDNN_OPTS": None},
    APPLICATIONS_ONEDNN: {"TF_ENABLE_ONEDNN_OPTS": "1"},
    STOCK_LAYERS_ONEDNN: {"TF_ENABLE_ONEDNN_OPTS": "1"},
    CONVOLUTIONS: {"TF_ENABLE_ONEDNN_OPTS": "1"},
}
CLASSES = 1000


@dataclass(frozen=True)
class Task:
    """What is trained: a network of ours, on batches of square random images."""

    network: str
    image_size: int
    batch_size: int
    policy: str

    @property
    def is_bfloat16(self) -> bool:
        return self.policy == "mixed_bfloat16"


def start(peer: str, task: Task) -> Callable[[float], float]:
    """Prepares a peer in this process.

    Returns:
        A function that makes steps for so many seconds, one at least, and tells the images a
        second.
    """
    prepare = {
        OURS: _ours,
        APPLICATIONS: _applications,
        APPLICATIONS_ONEDNN: _applications,
        STOCK_LAYERS: _stock_layers,
        STOCK_LAYERS_ONEDNN: _stock_layers,
        TORCH: _torch,
        TORCH_COMPILED: lambda task: _torch(task, compiled=True),
        CONVOLUTIONS: _convolutions,
    }
    step = prepare[peer](task)

    def steps(seconds: float) -> float:
        begun, made = time.perf_counter(), 0
        while made < 1 or time.perf_counter() - begun < seconds:
            step()
            made += 1
        return made * task.batch_size / (time.perf_counter() - begun)

    steps(0)  # traces and warms up
    return steps


def of_imagenet() -> list[str]:
    """The peers of ResNet-50 that can be had here; PyTorch's need the peers' packages."""
    torch = [TORCH, TORCH_COMPILED] if importlib.util.find_spec("transformers") else []
    return [OURS, APPLICATIONS, *_with_onednn(APPLICATIONS_ONEDNN), *torch, CONVOLUTIONS]


def of_cifar() -> list[str]:
    """The peers of the networks for CIFAR-10, which no other library has."""
    return [OURS, STOCK_LAYERS, *_with_onednn(STOCK_LAYERS_ONEDNN)]


def _with_onednn(peer: str) -> list[str]:
    """A peer for processors where stock TensorFlow leaves oneDNN off."""
    return [] if "avx512f" in measuring.machine() else [peer]


def _ours(task: Task) -> Callable[[], Any]:
    from resnet_keras import create
    from resnet_keras.training import optimizers

    return _keras(create(task.network, **_how(task)), optimizers.SGD(0.1, momentum=0.9), task)


def _how(task: Task) -> dict[str, Any]:
    """Arguments of a network; the policy is set by the way."""
    import keras

    keras.config.set_dtype_policy(task.policy)
    return {"input_shape": (task.image_size, task.image_size, 3)}


def _applications(task: Task) -> Callable[[], Any]:
    """Its preprocessing is left out and its softmax is in the policy's precision: both for it."""
    import keras

    model = keras.applications.ResNet50(weights=None, classes=CLASSES, **_how(task))
    return _keras(model, keras.optimizers.SGD(0.1, momentum=0.9), task)


def _stock_layers(task: Task) -> Callable[[], Any]:
    # Before this package, which would switch oneDNN on: this peer has it as its environment says.
    import keras

    from resnet_keras import create

    model = with_stock_layers(create(task.network, **_how(task)))
    return _keras(model, keras.optimizers.SGD(0.1, momentum=0.9), task)


def with_stock_layers(model: Any) -> Any:
    """A network of ours, each of our layers exchanged for Keras's that it is derived from."""
    import keras

    from resnet_keras.networks import layers

    stock: dict[type, Any] = {
        layers.BatchNormalization: keras.layers.BatchNormalization,
        layers.Conv2D: keras.layers.Conv2D,
        layers.Dense: keras.layers.Dense,
    }

    def exchanged(layer: Any) -> Any:
        config = layer.get_config()
        if type(layer) is layers.Dense:
            del config["class_names"], config["centre"]
        kind: Any = stock.get(type(layer), type(layer))
        return kind.from_config(config)

    return keras.models.clone_model(model, clone_function=exchanged)


def _keras(model: Any, optimizer: Any, task: Task) -> Callable[[], Any]:
    import numpy as np

    model.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=False)
    generator = np.random.default_rng(0)
    shape = (task.batch_size, task.image_size, task.image_size, 3)
    images = generator.integers(0, 256, shape).astype("float32")
    labels = generator.integers(0, model.output_shape[-1], task.batch_size)
    return lambda: model.train_on_batch(images, labels)


def _torch(task: Task, compiled: bool = False) -> Callable[[], Any]:
    """ResNet-50 of transformers, with its stride where v1 has it, as PyTorch's guides tune it."""
    import torch
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(downsample_in_bottleneck=True, num_labels=CLASSES)  # pyright: ignore[reportCallIssue]
    model = ResNetForImageClassification(config).train()
    model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    shape = (task.batch_size, 3, task.image_size, task.image_size)
    images = torch.randn(shape).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(CLASSES, (task.batch_size,))
    run = torch.compile(model) if compiled else model

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=task.is_bfloat16):
            logits = run(pixel_values=images).logits
            loss = torch.nn.functional.cross_entropy(logits.float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def _convolutions(task: Task) -> Callable[[], Any]:
    """The floor: every convolution forward, and both its gradients, and nothing else.

    The stem's gradient of its input is left out, as in training.
    """
    import tensorflow as tf

    dtype = "bfloat16" if task.is_bfloat16 else "float32"
    calls = [
        (_convolution(tf, dtype, *shape), count)
        for shape, count in convolution_shapes(task).items()
    ]

    def step() -> None:
        for call, count in calls:
            for _ in range(count):
                call()

    return step


def convolution_shapes(task: Task) -> Counter[tuple[Any, ...]]:
    """How often a network has which convolution: input, output, kernel, strides, padding, stem."""
    import keras

    from resnet_keras import create

    model = create(task.network, **_how(task))
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    return Counter(
        (
            (task.batch_size, *layer.input.shape[1:]),
            (task.batch_size, *layer.output.shape[1:]),
            tuple(layer.kernel.shape),
            layer.strides,
            layer.padding.upper(),
            layer is convolutions[0],
        )
        for layer in convolutions
    )


def _convolution(
    tf: Any,
    dtype: str,
    inputs: tuple[int, ...],
    outputs: tuple[int, ...],
    kernel: tuple[int, ...],
    strides: tuple[int, int],
    padding: str,
    is_stem: bool,
) -> Callable[[], Any]:
    how = {"strides": [1, *strides, 1], "padding": padding}

    @tf.function
    def call(x: Any, w: Any, errors: Any) -> list[Any]:
        done = [
            tf.nn.conv2d(x, w, **how),
            tf.raw_ops.Conv2DBackpropFilter(
                input=x, filter_sizes=kernel, out_backprop=errors, **how
            ),
        ]
        if not is_stem:
            done.append(
                tf.raw_ops.Conv2DBackpropInput(
                    input_sizes=inputs, filter=w, out_backprop=errors, **how
                )
            )
        return done

    arguments = [tf.cast(tf.random.normal(shape), dtype) for shape in (inputs, kernel, outputs)]
    return lambda: call(*arguments)
