"""Images a second of exported ResNet-50 by format, beside keras.applications' exports and PyTorch.

    python benchmarks/inference.py

Every file is loaded in its runtime in a process of its own, and they take turns, with one image a
call and with eight. Files are made once, in build/benchmarks; their weights have learnt nothing.
Those of TFLite take one image a call: eight are eight calls.
"""

import importlib.util
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import measuring
import numpy as np
from peers import APPLICATIONS as STOCK
from peers import ENVIRONMENTS
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

FOLDER = Path(__file__).parents[1] / "build" / "benchmarks"
SIZE, CLASSES = 224, 1000
BATCHES = (1, 8)
SECONDS = 1.0  # a turn of each batch size, of two calls at least
THREADS = 2

KERAS, SAVED_MODEL, LITERT, ONNX = "Keras predict", "SavedModel", "LiteRT", "ONNX Runtime"
OURS = {
    KERAS: "inference_model.keras",
    SAVED_MODEL: "saved-model",
    f"{LITERT}, float32": "tflite-float32",
    f"{LITERT}, float16": "tflite-float16",
    f"{LITERT}, int8": "tflite-int8",
    f"{ONNX}, float32": "onnx-float32",
    f"{ONNX}, int8": "onnx-int8",
}
APPLICATIONS = {
    KERAS: "applications.keras",
    SAVED_MODEL: "applications",
    f"{LITERT}, float32": "applications.tflite",
    f"{ONNX}, float32": "applications.onnx",
}
TORCH, TORCH_COMPILED = "PyTorch", "PyTorch, compiled"


# Files


def photographs(number: int) -> np.ndarray:
    """Parts of scikit-learn's two photographs, (number, 224, 224, 3) uint8."""
    from sklearn.datasets import load_sample_images

    generator = np.random.default_rng(0)
    photos = load_sample_images().images
    corners = generator.integers(0, [427 - SIZE, 640 - SIZE], (number, 2))
    return np.stack(
        [
            photos[index % 2][top : top + SIZE, left : left + SIZE]
            for index, (top, left) in enumerate(corners)
        ]
    )


def make_ours(folder: Path) -> None:
    """Writes our files, as `resnet-keras export` does."""
    import resnet_keras
    from resnet_keras.export.card import ModelCard
    from resnet_keras.export.folding import inference_model
    from resnet_keras.export.formats import FORMATS

    missing = [name for name in OURS.values() if not _path(folder, name).exists()]
    if not missing:
        return
    images = photographs(32)
    model = resnet_keras.ResNet50()
    for start in range(0, 32, 8):  # normalisations whose statistics are some network's
        model(images[start : start + 8].astype("float32"), training=True)
    model = inference_model(model)
    model.save(_path(folder, OURS[KERAS]))
    card = ModelCard("resnet50", "", tuple(map(str, range(CLASSES))))
    for name in missing:
        if name in FORMATS:
            FORMATS[name].convert(model, card, images, _path(folder, name))


def make_applications(folder: Path) -> None:
    """Writes keras.applications' files by what Keras and TensorFlow document."""
    if all((folder / name).exists() for name in APPLICATIONS.values()):
        return
    import keras
    import tensorflow as tf

    model = keras.applications.ResNet50(weights=None)
    model.save(folder / APPLICATIONS[KERAS])
    model.export(folder / APPLICATIONS[SAVED_MODEL], verbose=False)
    converted = tf.lite.TFLiteConverter.from_keras_model(model).convert()
    (folder / APPLICATIONS[f"{LITERT}, float32"]).write_bytes(converted)
    model.export(folder / APPLICATIONS[f"{ONNX}, float32"], format="onnx", verbose=False)


def _path(folder: Path, name: str) -> Path:
    from resnet_keras.export.formats import FORMATS

    return folder / (FORMATS[name].file if name in FORMATS else name)


# What answers


def of_ours(folder: Path, what: str) -> Callable[[np.ndarray], Any]:
    """One of our files in its runtime, as the export compares it."""
    if what == KERAS:
        import resnet_keras

        return partial(resnet_keras.load_model(folder / OURS[KERAS]).predict, verbose=0)
    from resnet_keras.export.formats import FORMATS

    return FORMATS[OURS[what]].predictor(_path(folder, OURS[what]))


def of_applications(folder: Path, what: str) -> Callable[[np.ndarray], Any]:
    """One of keras.applications' files in its runtime, on as many threads as ours."""
    path = str(folder / APPLICATIONS[what])
    if what == KERAS:
        import keras

        model = keras.saving.load_model(path, compile=False)
        return lambda images: model.predict(images, verbose=0)
    if what == SAVED_MODEL:
        import tensorflow as tf

        loaded = tf.saved_model.load(path)
        return lambda images: loaded.serve(tf.constant(images.astype("float32"))).numpy()
    if what.startswith(ONNX):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return lambda images: session.run(None, {name: images.astype("float32")})[0]
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(path, num_threads=THREADS)
    interpreter.allocate_tensors()
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()

    def answer(images: np.ndarray) -> np.ndarray:
        found = []
        for image in images.astype("float32"):
            interpreter.set_tensor(taken["index"], image[None])
            interpreter.invoke()
            found.append(interpreter.get_tensor(given["index"]))
        return np.concatenate(found)

    return answer


def of_torch(what: str) -> Callable[[np.ndarray], Any]:
    """PyTorch's model of transformers."""
    import torch
    from transformers import ResNetConfig, ResNetForImageClassification

    torch.set_num_threads(THREADS)
    config = ResNetConfig(downsample_in_bottleneck=True, num_labels=CLASSES)  # pyright: ignore[reportCallIssue]
    model = ResNetForImageClassification(config).eval()
    model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    run = torch.compile(model) if what == TORCH_COMPILED else model

    def answer(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            # The permuted view of NHWC memory is what channels_last means.
            pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
            return run(pixel_values=pixels).logits.softmax(-1).numpy()

    return answer


def prepare(of: str, what: str, folder: str) -> tuple[dict[str, Any], Callable[[], dict[str, Any]]]:
    """Loads one of them in this process, and warms it up."""
    start = {
        "ours": partial(of_ours, Path(folder)),
        "applications": partial(of_applications, Path(folder)),
        "torch": of_torch,
    }[of]
    answer = start(what)
    images = photographs(max(BATCHES))
    for batch in BATCHES:
        answer(images[:batch])

    def measure() -> dict[str, Any]:
        return {str(batch): _speed(answer, images[:batch]) for batch in BATCHES}

    return {}, measure


def _speed(answer: Callable[[np.ndarray], Any], images: np.ndarray) -> float:
    start, calls = time.perf_counter(), 0
    while calls < 2 or time.perf_counter() - start < SECONDS:
        answer(images)
        calls += 1
    return calls * len(images) / (time.perf_counter() - start)


def main(rounds: int = 5, anew: bool = False, keep: bool = False) -> None:
    """Compare exported formats of ResNet-50 at 224 pixels.

    Args:
        rounds: turns of each.
        anew: make the files again.
        keep: write what was found into benchmarks/results/, for docs/explanation/benchmarks.md.

    Raises:
        InputError: there are no rounds, or the packages that write and run the files are missing.
    """
    from resnet_keras.export import formats

    measuring.require_positive(rounds=rounds)
    formats.find([name for name in OURS.values() if name in formats.FORMATS])
    FOLDER.mkdir(parents=True, exist_ok=True)
    if anew:
        shutil.rmtree(FOLDER)
        FOLDER.mkdir()
    environments = {"applications": ENVIRONMENTS[STOCK]}
    for name in ("ours", "applications"):
        print(f"making the files of {name}, unless they are there", flush=True)
        with measuring.Worker(__file__, name, environment=environments.get(name)) as worker:
            worker.prepared()
    peers = {f"resnet_keras, {what}": ("ours", what) for what in OURS}
    peers |= {f"keras.applications, {what}": ("applications", what) for what in APPLICATIONS}
    if importlib.util.find_spec("transformers"):
        peers |= {what: ("torch", what) for what in (TORCH, TORCH_COMPILED)}
    workers = {
        name: partial(
            measuring.Worker, __file__, *peer, str(FOLDER), environment=environments.get(peer[0])
        )
        for name, peer in peers.items()
    }
    with Progress(transient=True) as progress:
        turns = measuring.in_turns(workers, rounds, progress, "inference")
    found = {
        name: {batch: [one[str(batch)] for one in of] for batch in BATCHES}
        for name, of in turns.items()
    }
    table = Table(title=f"ResNet-50, images/s; {measuring.machine()}", box=None)
    table.add_column("peer")
    for batch in BATCHES:
        table.add_column(f"batch {batch}", justify="right")
    for name, speeds in found.items():
        table.add_row(name, *(measuring.spread(of, 1) for of in speeds.values()))
    Console(width=120).print(table)
    if keep:
        measuring.write_results("inference", images_per_second=found)


if __name__ == "__main__":
    if arguments := measuring.worker_arguments():
        if len(arguments) == 1:
            make = {"ours": make_ours, "applications": make_applications}[arguments[0]]
            measuring.serve(lambda: ({"made": make(FOLDER)}, dict))
        else:
            measuring.serve(partial(prepare, *arguments))
    else:
        measuring.command(main)
