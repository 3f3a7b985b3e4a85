"""Benchmarks measure what they say, and their page is as the results are; nothing is timed here."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from kit import ROOT, answers, refusal, run, run_python

import resnet_keras

sys.path.insert(0, str(ROOT / "benchmarks"))

import fit
import gpu
import growth
import inference
import input_pipeline
import measuring
import page
import peers
import training_step

PEER = """
import sys
sys.path.insert(0, "BENCHMARKS")
import measuring
(name,) = measuring.worker_arguments()

def prepare():
    print("noise of a library")
    calls = []
    if name == "broken":
        raise ValueError("cannot start")
    def measure():
        calls.append(name)
        return {"calls": len(calls)}
    return {"name": name}, measure

measuring.serve(prepare)
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "peer.py"
    path.write_text(PEER.replace("BENCHMARKS", str(ROOT / "benchmarks")))
    return str(path)


def test_peers_take_turns_in_processes_of_their_own(script):
    from rich.progress import Progress

    workers = {name: lambda name=name: measuring.Worker(script, name) for name in "ab"}
    found = measuring.in_turns(workers, 3, Progress(disable=True), "turns")
    for name in "ab":
        assert found[name][0]["prepared"] == {"name": name}
        assert [one["calls"] for one in found[name]] == [1, 2, 3]


def test_a_peer_that_cannot_start_is_told(script):
    with (
        measuring.Worker(script, "broken") as worker,
        pytest.raises(RuntimeError, match="cannot start"),
    ):
        worker.prepared()


def test_a_workers_environment(tmp_path, script, monkeypatch):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
    source = (
        Path(script)
        .read_text(encoding="utf-8")
        .replace('{"name": name}', "dict(__import__('os').environ)")
    )
    Path(script).write_text(source, encoding="utf-8")
    with measuring.Worker(script, "a", environment={"TF_ENABLE_ONEDNN_OPTS": None}) as worker:
        assert "TF_ENABLE_ONEDNN_OPTS" not in worker.prepared()
    with measuring.Worker(script, "a", environment={"MINE": "1"}) as worker:
        assert worker.prepared()["MINE"] == "1"


@pytest.mark.parametrize("name", page.PAGES)
def test_the_pages_are_as_the_results_are(name):
    text = (ROOT / "docs" / "explanation" / name).read_text("utf-8")
    assert text == page.written(name)


def test_lines_of_least_squares():
    slope, intercept, explained = growth.fit([1, 2, 3], [5.0, 7.0, 9.0])
    assert (slope, intercept, explained) == pytest.approx((2, 3, 1))
    assert growth.fit([1, 2, 3, 4], [1.0, -1.0, 1.0, -1.0])[2] < 0.5


def test_stock_layers_are_the_same_network():
    """Each of our layers is exchanged for Keras's; the answers are the same."""
    import resnet_keras

    ours = resnet_keras.create("resnet20", input_shape=(8, 8, 3))
    stock = peers.with_stock_layers(ours)
    assert {type(layer).__module__.split(".")[0] for layer in stock.layers if layer.weights} == {
        "keras"
    }
    stock.set_weights(ours.get_weights())
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)).astype("float32")
    np.testing.assert_allclose(answers(stock, images), answers(ours, images), atol=1e-5)


def test_the_floor_is_of_all_convolutions():
    task = peers.Task("resnet20", 8, 2, "float32")
    counts = peers.convolution_shapes(task)
    assert counts.total() == 19
    assert sum(shape[-1] for shape in counts) == 1  # the stem


GPU_STEP = """
import sys
sys.path.insert(0, sys.argv[1])
import gpu
import keras
import kit
import numpy as np
from resnet_keras.networks import models
from resnet_keras.training import optimizers

def compiled():
    keras.utils.set_random_seed(0)
    model = models.build(kit.TINY, (8, 8, 3))
    model.compile(optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy")
    return model

images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3)).astype("uint8")
labels = np.arange(4)
step, state = gpu.step_of(compiled(), images, labels)
model = compiled()
for _ in range(3):
    state = step(state)
    model.train_on_batch(images, labels)
for found, variables in zip(state, (model.trainable_variables, model.non_trainable_variables)):
    for one, other in zip(found, variables, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
"""


@pytest.mark.slow
def test_the_gpu_benchmark_takes_the_steps_of_fit():
    run_python(GPU_STEP, ROOT / "benchmarks", KERAS_BACKEND="jax")


@pytest.mark.parametrize(
    ("main", "options", "received"),
    [
        (training_step.main, {"rounds": 0}, "0"),
        (training_step.main, {"check": True, "networks": ("resnet20",)}, "--networks resnet20"),
        (training_step.main, {"keep": True, "networks": ("resnet20",)}, "--networks resnet20"),
        (fit.main, {"steps": -1}, "-1"),
        (growth.main, {"rounds": -2}, "-2"),
        (inference.main, {"rounds": 0}, "0"),
        (input_pipeline.main, {"quality": 500}, "500"),
        (input_pipeline.main, {"batch_size": -1}, "-1"),
    ],
)
def test_bad_values_are_refused(main, options, received):
    assert refusal(main, **options).received == received


def refused(script, *arguments):
    """What a benchmark says of its arguments, and that its status is 2."""
    ended = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / f"{script}.py", *arguments],
        check=False,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    return ended.stderr


@pytest.mark.parametrize(
    ("script", "arguments", "value"),
    [
        ("growth", ["--rounds", "-2"], "growth.py: error: rounds "),
        ("training_step", ["--policies", "float99"], "mixed_bfloat16"),
        ("gpu", ["--rounds", "1"], "--rounds 1"),
    ],
)
def test_bad_arguments_end_a_benchmark_with_status_2(script, arguments, value):
    assert value in refused(script, *arguments)


def test_processes_of_stock_keras_have_tensorflow_as_it_comes():
    """What they import leaves it to them whether this package sets TensorFlow to oneDNN."""
    modules = "training_step, inference, peers, measuring"
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'benchmarks')!r}); import {modules}\n"
        "assert 'resnet_keras' not in sys.modules"
    )
    run(sys.executable, "-c", code)


def test_a_checkout_that_is_not_installed_is_benchmarked(tmp_path):
    """Python without site-packages finds links to all packages but this one."""
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if "resnet_keras" not in path.name:
            (tmp_path / path.name).symlink_to(path)
    script = (
        "import importlib.metadata, gpu, resnet_keras.runs.run\n"
        "try: importlib.metadata.version('resnet-keras')\n"
        "except importlib.metadata.PackageNotFoundError: print(resnet_keras.__version__)"
    )
    places = os.pathsep.join(map(str, (ROOT / "benchmarks", tmp_path)))
    told = run(sys.executable, "-S", "-c", script, cwd=tmp_path, PYTHONPATH=places)
    assert told.split() == [resnet_keras.__version__]


def test_the_gpu_benchmark_says_what_it_needs():
    if gpu.listed_gpus():
        pytest.skip("this machine has a GPU")
    assert "needs an NVIDIA GPU. Received: none" in refused("gpu")
