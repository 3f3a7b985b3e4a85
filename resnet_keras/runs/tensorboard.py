"""What TensorBoard shows of a run, written with TensorBoard's own writer (no TensorFlow needed)."""

import io
import os
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from PIL import Image
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto import event_pb2, graph_pb2, node_def_pb2, summary_pb2
from tensorboard.plugins.image import metadata as image_metadata
from tensorboard.plugins.scalar import summary_v2 as scalar_summary
from tensorboard.summary.writer.record_writer import RecordWriter

from resnet_keras.architectures.layer_names import path_of
from resnet_keras.files.atomic import write_file

FILE_NAME = "events.out.tfevents"
FILE_VERSION = "brain.Event:2"


class EventLog:
    """An events file in a folder; a context manager that closes it.

    TensorBoard's own writer of such files would write in a thread, and tell of a full disk there.

    Args:
        folder: made if missing.
        keep_until: what an interrupted run has logged there beyond this step goes, since it is
            about to be logged again: a chart then shows one curve. None keeps everything.
        without: tags that go at every step then.

    Raises:
        OSError: nothing can be written there; so do the methods.
    """

    def __init__(
        self, folder: Path, keep_until: int | None = None, without: Sequence[str] = ()
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        if keep_until is not None:
            for path in folder.glob(f"{FILE_NAME}.*"):
                _drop(path, keep_until, without)
        name = f"{FILE_NAME}.{time.time_ns():020d}.{socket.gethostname()}.{os.getpid()}"
        self._writer = RecordWriter((folder / name).open("xb"))
        self._add(event_pb2.Event(wall_time=time.time(), file_version=FILE_VERSION))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._writer.close()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for tag, value in values.items():
            self._add_summary(step, scalar_summary.scalar_pb(tag, np.float32(value)))

    def image(self, step: int, tag: str, image: np.ndarray) -> None:
        """Logs one picture, (height, width, 3) uint8."""
        png = io.BytesIO()
        Image.fromarray(image).save(png, "PNG")
        height, width, _ = image.shape
        value = summary_pb2.Summary.Value(
            tag=tag,
            metadata=image_metadata.create_summary_metadata(display_name=tag, description=""),
            image=summary_pb2.Summary.Image(
                height=height, width=width, colorspace=3, encoded_image_string=png.getvalue()
            ),
        )
        self._add_summary(step, summary_pb2.Summary(value=[value]))

    def graph(self, model: Any) -> None:
        """Logs a Keras model as a graph of its layers, folded by stage and unit."""
        graph = layer_graph(model)
        self._add(event_pb2.Event(wall_time=time.time(), graph_def=graph.SerializeToString()))

    def _add_summary(self, step: int, summary: summary_pb2.Summary) -> None:
        self._add(event_pb2.Event(wall_time=time.time(), step=step, summary=summary))

    def _add(self, event: event_pb2.Event) -> None:
        self._writer.write(event.SerializeToString())
        self._writer.flush()


def _drop(path: Path, after: int, tags: Sequence[str]) -> None:
    """Rewrites an events file without later steps and some tags, and without a cut-off end."""
    kept = []
    for content in RawEventFileLoader(str(path)).Load():
        event = event_pb2.Event.FromString(content)
        if event.step <= after and not any(value.tag in tags for value in event.summary.value):
            kept.append(content)

    def write(partial: Path) -> None:
        with partial.open("wb") as file:
            writer = RecordWriter(file)
            for content in kept:
                writer.write(content)
            writer.flush()

    write_file(path, write)


def layer_graph(model: Any) -> graph_pb2.GraphDef:
    """The layers of a functional model as nodes, named "stage2/2a/res2a_branch2a" and so on."""
    node_of_tensor = {id(layer.output): path_of(layer.name) for layer in model.layers}
    nodes = []
    for layer in model.layers:
        inputs = [] if layer.__class__.__name__ == "InputLayer" else _as_list(layer.input)
        nodes.append(
            node_def_pb2.NodeDef(
                name=path_of(layer.name),
                op=layer.__class__.__name__,
                input=[node_of_tensor[id(tensor)] for tensor in inputs],
            )
        )
    return graph_pb2.GraphDef(node=nodes)


def _as_list(tensors: Any) -> list[Any]:
    return list(tensors) if isinstance(tensors, list | tuple) else [tensors]


def image_grid(images: np.ndarray, columns: int = 8) -> np.ndarray:
    """Lays images (n, h, w, 3) out in rows, on white, with a pixel between them."""
    _, height, width, _ = images.shape
    rows = -(-len(images) // columns)
    grid = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1, 3), 255, np.uint8)
    for index, image in enumerate(images):
        top, left = (index // columns) * (height + 1), (index % columns) * (width + 1)
        grid[top : top + height, left : left + width] = image
    return grid
