"""Images/s of the input pipeline: this package beside Keras's, on the same JPEG files.

    python benchmarks/input_pipeline.py
    python benchmarks/input_pipeline.py --rounds 7 --quality 95

The files are parts of scikit-learn's two photographs, 500x375 pixels, in four classes. Every
measurement is a process of its own; the peers take turns (A B C A B C …), so that a machine whose
speed drifts treats them alike. What counts is the ratio, round by round. Where PyTorch is
installed, its DataLoader with Pillow takes part too.
"""

import importlib.util
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import measuring
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

RESIZED, JITTER = "resnet_keras, random resized crop", "resnet_keras, scale jitter crop"
STOCK = "keras.utils.image_dataset_from_directory"
TORCH = "torch DataLoader, Pillow"

CLASSES, IMAGES_PER_CLASS = 4, 100
WIDTH, HEIGHT = 500, 375
IMAGE_SIZE, RESIZED_SIZE = 224, 256


@dataclass(frozen=True)
class Measurement:
    """What one process found.

    Attributes:
        images_per_second: by the clock.
        cpu_microseconds: time of all cores an image, which other processes disturb less.
    """

    images_per_second: float
    cpu_microseconds: float


def write_photos(folder: Path, quality: int) -> float:
    """Writes the JPEG files, a folder a class; tells their mean size in kB."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_sample_images

    photos = [Image.fromarray(photo) for photo in load_sample_images().images]
    random = np.random.default_rng(0)
    sizes = []
    for number in range(CLASSES * IMAGES_PER_CLASS):
        photo = photos[number % len(photos)]
        width = random.uniform(0.6, 1.0) * photo.height * WIDTH / HEIGHT
        height = width * HEIGHT / WIDTH
        left, top = random.uniform(0, photo.width - width), random.uniform(0, photo.height - height)
        box = (left, top, left + width, top + height)
        path = folder / str(number % CLASSES) / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        resized = photo.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC, box)
        resized.save(path, quality=quality)
        sizes.append(path.stat().st_size / 1000)
    return statistics.mean(sizes)


def photo_batches(folder: Path, peer: str, batch_size: int) -> Any:
    """Batches of this package, as `fit` takes them."""
    import numpy as np

    from resnet_keras.data.augmentation import Augmentation, RandomResizedCrop, ScaleJitterCrop
    from resnet_keras.data.pipelines.tf_pipeline import training_batches
    from resnet_keras.data.splits import EncodedSplit

    paths = sorted(folder.glob("*/*.jpg"))
    labels = np.array([int(path.parent.name) for path in paths])
    split = EncodedSplit(lambda index: paths[index].read_bytes(), labels, list(map(str, paths)))
    crop = RandomResizedCrop() if peer == RESIZED else ScaleJitterCrop()
    return training_batches(
        split,
        Augmentation(crop, flip=True),
        image_size=IMAGE_SIZE,
        classes=CLASSES,
        batch_size=batch_size,
        seed=0,
        first_step=0,
        last_step=10**6,
    )


def stock(folder: Path, batch_size: int) -> Iterator[Any]:
    """Batches as Keras's guides make them."""
    import keras
    import tensorflow as tf

    size = (RESIZED_SIZE, RESIZED_SIZE)
    batches = keras.utils.image_dataset_from_directory(
        folder, image_size=size, batch_size=batch_size, seed=0, verbose=False
    )
    crop = keras.layers.RandomCrop(IMAGE_SIZE, IMAGE_SIZE)
    flip = keras.layers.RandomFlip("horizontal")

    def augment(images: Any, labels: Any) -> tuple[Any, Any]:
        return flip(crop(images, training=True), training=True), labels

    batches = batches.repeat().map(augment, num_parallel_calls=tf.data.AUTOTUNE)
    return iter(batches.prefetch(tf.data.AUTOTUNE))


def torch_loader(folder: Path, batch_size: int) -> Iterator[Any]:
    """Batches of a DataLoader with a process a core: random resized crop and flip by Pillow."""
    import numpy as np
    import torch
    from PIL import Image

    from resnet_keras.data.augmentation import Augmentation, RandomResizedCrop
    from resnet_keras.data.pipelines.numpy_pipeline import draw_window

    augmentation = Augmentation(RandomResizedCrop())

    class Photos(torch.utils.data.Dataset):
        paths = sorted(folder.glob("*/*.jpg"))

        def __len__(self) -> int:
            return 10**7

        def __getitem__(self, index: int) -> tuple[Any, int]:
            path = self.paths[index % len(self.paths)]
            random = np.random.default_rng(index)
            with Image.open(path) as image:
                box = draw_window(image.height, image.width, random, augmentation, IMAGE_SIZE)
                square = (IMAGE_SIZE, IMAGE_SIZE)
                shown = image.convert("RGB").resize(square, Image.Resampling.BILINEAR, box)
            if random.random() < 0.5:
                shown = shown.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            return torch.from_numpy(np.array(shown)), int(path.parent.name)

    workers = os.cpu_count() or 1
    return iter(torch.utils.data.DataLoader(Photos(), batch_size, num_workers=workers))


def prepare(
    peer: str, folder: str, batch_size: int, seconds: float
) -> tuple[dict[str, Any], Callable[[], dict[str, Any]]]:
    """Warms a peer up in this process; what it gives takes batches for some seconds."""
    if peer == STOCK:
        batches = stock(Path(folder), batch_size)
    elif peer == TORCH:
        batches = torch_loader(Path(folder), batch_size)
    else:
        batches = iter(photo_batches(Path(folder), peer, batch_size))

    def measure() -> dict[str, Any]:
        before, start = _cpu_seconds(), time.perf_counter()
        images = batch_size * _take(batches, seconds)
        elapsed = time.perf_counter() - start
        return asdict(Measurement(images / elapsed, (_cpu_seconds() - before) / images * 1e6))

    measure()  # tf.data finds out how many threads are best
    return {}, measure


def _take(batches: Iterator[Any], seconds: float) -> int:
    """Takes batches until the time is over; tells how many."""
    end, taken = time.perf_counter() + seconds, 0
    while time.perf_counter() < end:
        next(batches)
        taken += 1
    return taken


def _cpu_seconds() -> float:
    """Of this process alone: the DataLoader's are not in it."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main(
    rounds: int = 7,
    seconds: float = 4.0,
    batch_size: int = 32,
    quality: int = 90,
    keep: bool = False,
) -> None:
    """Compare the crops with keras.utils.image_dataset_from_directory, RandomCrop and RandomFlip.

    Args:
        rounds: turns of each peer.
        seconds: of a turn.
        batch_size: images a batch.
        quality: of the JPEG files, 1 to 95.
        keep: write what was found into benchmarks/results/.

    Raises:
        InputError: a number is out of range.
    """
    measuring.require_positive(rounds=rounds, seconds=seconds, batch_size=batch_size)
    measuring.require(
        quality in range(1, 96), "quality is out of range", received=quality, accepted="1 to 95"
    )
    peers = [RESIZED, JITTER, STOCK]
    if importlib.util.find_spec("torch"):
        peers.append(TORCH)
    with tempfile.TemporaryDirectory() as folder, Progress(transient=True) as progress:
        kilobytes = write_photos(Path(folder), quality)
        workers = {
            peer: partial(measuring.Worker, __file__, peer, folder, batch_size, seconds)
            for peer in peers
        }
        turns = measuring.in_turns(workers, rounds, progress, "input pipeline")
    found = {
        peer: [Measurement(one["images_per_second"], one["cpu_microseconds"]) for one in of]
        for peer, of in turns.items()
    }
    files = f"{WIDTH}x{HEIGHT} JPEG, quality {quality}, {kilobytes:.0f} kB"
    _print(found, f"{files}, batch {batch_size}; {measuring.machine()}")
    if keep:
        measuring.write_results(
            "input_pipeline",
            files=files,
            batch_size=batch_size,
            measurements=[
                {"peer": peer, **asdict(measurement)}
                for peer, measurements in found.items()
                for measurement in measurements
            ],
        )


def _print(found: dict[str, list[Measurement]], title: str) -> None:
    table = Table(title=f"Input pipeline: {title}", box=None)
    for heading in ("peer", "images/s", "ratio, round by round", "CPU us/image", "ratio"):
        table.add_column(heading, justify="left" if heading == "peer" else "right")
    stock_speeds, stock_costs = _speeds(found[STOCK]), _costs(found[STOCK])
    for peer, measurements in found.items():
        speeds, costs = _speeds(measurements), _costs(measurements)
        of_this_process = peer != TORCH  # the DataLoader's time is other processes'
        table.add_row(
            peer,
            measuring.spread(speeds, digits=0),
            measuring.spread(measuring.ratios(speeds, stock_speeds)),
            f"{statistics.median(costs):.0f}" if of_this_process else "",
            measuring.spread(measuring.ratios(stock_costs, costs)) if of_this_process else "",
        )
    Console(width=140).print(table)


def _speeds(measurements: list[Measurement]) -> list[float]:
    return [measurement.images_per_second for measurement in measurements]


def _costs(measurements: list[Measurement]) -> list[float]:
    return [measurement.cpu_microseconds for measurement in measurements]


if __name__ == "__main__":
    if arguments := measuring.worker_arguments():
        measuring.serve(partial(prepare, *arguments))
    else:
        measuring.command(main)
