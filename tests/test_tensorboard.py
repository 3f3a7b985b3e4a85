"""TensorBoard's events, asked of a real TensorBoard server over HTTP."""

import io
import json

import kit
import numpy as np
import pytest
import tensorboard_server
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard_server import ask

from resnet_keras.networks.models import build
from resnet_keras.runs.tensorboard import EventLog, image_grid, layer_graph


@pytest.fixture(scope="module")
def picture():
    return np.random.default_rng(0).integers(0, 256, (5, 9, 3), np.uint8)


@pytest.fixture(scope="module")
def server(tmp_path_factory, picture):
    """The address of a TensorBoard that serves one run."""
    folder = tmp_path_factory.mktemp("events")
    with EventLog(folder / "training") as log:
        log.graph(build(kit.TINY))
        log.image(0, "grid", picture)
        for step in (1, 2, 3):
            log.scalars(step, {"loss": 1 / step, "learning_rate": 0.1})
    # It needs no TensorFlow, the import of which would take most of the time.
    modules = tmp_path_factory.mktemp("modules")
    (modules / "tensorflow.py").write_text("raise ImportError")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(modules))
        with tensorboard_server.serving(folder) as address:
            yield address


def test_scalars(server):
    assert set(json.loads(ask(server, "scalars/tags"))["training"]) == {"loss", "learning_rate"}
    rows = json.loads(ask(server, "scalars/scalars?run=training&tag=loss"))
    assert [row[1] for row in rows] == [1, 2, 3]
    np.testing.assert_allclose([row[2] for row in rows], [1, 1 / 2, 1 / 3], rtol=1e-6)


def test_images(server, picture):
    (row,) = json.loads(ask(server, "images/images?run=training&tag=grid&sample=0"))
    png = ask(server, f"images/individualImage?{row['query']}")
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png))), picture)


def test_graph(server):
    graph = ask(server, "graphs/graph?run=training&conceptual=false").decode()
    assert 'name: "stage2/2a/res2a_branch2a"' in graph
    assert 'op: "BatchNormalization"' in graph


def test_what_is_logged_again_replaces_what_was_logged(tmp_path):
    """Also where the process was killed while it wrote: an event that is cut off goes."""

    def events():
        loader = EventAccumulator(str(tmp_path)).Reload()
        return [event.step for event in loader.Tensors("loss")], loader.Tags()["images"]

    with EventLog(tmp_path) as log:
        for step in (1, 2, 3):
            log.scalars(step, {"loss": 1 / step})
        log.image(1, "end", np.zeros((4, 4, 3), "uint8"))
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-10])
    assert events() == ([1, 2, 3], [])
    with EventLog(tmp_path, keep_until=1) as log:
        log.scalars(2, {"loss": 0.5})
        log.image(2, "end", np.zeros((4, 4, 3), "uint8"))
    assert events() == ([1, 2], ["end"])
    with EventLog(tmp_path, keep_until=2, without=("end",)):
        pass
    assert events() == ([1, 2], [])


def test_layer_graph_holds_every_layer_and_its_inputs():
    model = build(kit.TINY)
    nodes = {node.name: node for node in layer_graph(model).node}
    assert len(nodes) == len(model.layers)
    assert list(nodes["stage3/3a/res3a"].input) == [
        "stage3/3a/bn3a_branch2b",
        "stage3/3a/res3a_branch1",
    ]
    assert list(nodes["stem/conv1"].input) == ["stem/normalize"]
    assert {name for node in nodes.values() for name in node.input} <= set(nodes)


def test_image_grid():
    images = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 3, 3), np.uint8)
    grid = image_grid(images, columns=2)
    assert grid.shape == (3 * 2 + 2, 2 * 3 + 1, 3)
    assert (grid[0, 0, 0], grid[0, 4, 0], grid[3, 0, 0], grid[6, 0, 0]) == (0, 1, 2, 4)
    assert grid[2].min() == 255 and grid[:, 3].min() == 255 and grid[6, 4, 0] == 255
