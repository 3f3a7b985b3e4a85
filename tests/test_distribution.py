"""Several devices, several processes: the weights come out as those of one device."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

# Trains the tiny network on what devices there are, as the program would; then tells of it.
TRAINING = """
import dataclasses, json, os, sys
import keras
import numpy as np
from resnet_keras import NETWORKS, Run, load_model, train
from resnet_keras.architectures import RESNET20, Stem
from resnet_keras.data import sources
from resnet_keras.data.augmentation import Augmentation, PadAndCrop
from resnet_keras.recipes import Recipe
from resnet_keras.recorder import Recorder

folder, logical, settings = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
broken_off_after, devices = settings.pop("broken_off_after", None), settings.pop("devices", None)
if logical > 1 and keras.backend.backend() == "tensorflow":
    import tensorflow as tf
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * logical
    )
NETWORKS["tiny"] = dataclasses.replace(
    RESNET20, stem=Stem(4, 3), blocks=(1, 1, 1), filters=(4, 8, 16)
)
recipe = Recipe(
    epochs=2,
    batch_size=64,
    learning_rate=0.05,
    zero_init_last_gamma=True,
    augmentation=Augmentation(PadAndCrop(), flip=True),
    image_size=8,
    precision="float32",
)
recipe = dataclasses.replace(recipe, **settings)
run = Run(folder)
if broken_off_after:
    record = Recorder.on_train_batch_end
    def record_or_exit(self, batch, logs=None):
        record(self, batch, logs)
        if self.step == broken_off_after:
            os._exit(0)
    Recorder.on_train_batch_end = record_or_exit
train("tiny", sources.find("digits"), recipe, run, verbose=0, checkpoint_steps=5, devices=devices)
weights = [np.asarray(weight) for weight in load_model(run.last_model).weights]
np.savez(run.folder / "weights.npz", *weights)
"""


def trained(folder, logical, backend, **settings):
    """A run of the tiny network on some logical devices of a CPU, in a process of its own."""
    flags = f"--xla_force_host_platform_device_count={logical}"
    finished = subprocess.run(
        [sys.executable, "-c", TRAINING, str(folder), str(logical), json.dumps(settings)],
        env={**os.environ, "KERAS_BACKEND": backend, "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    used = settings.get("devices", logical)
    assert (f"devices: {used}\n" in finished.stdout) == (used > 1)
    return finished.stdout


def history(folder):
    """Losses and errors, epoch by epoch; (epochs, columns)."""
    return np.loadtxt(folder / "history.csv", delimiter=",", skiprows=1)


def weights(folder):
    with np.load(folder / "weights.npz") as content:
        return [content[name] for name in content.files]


def assert_same(folder, expected):
    np.testing.assert_allclose(history(folder), history(expected), rtol=0, atol=1e-5)
    for one, other in zip(weights(folder), weights(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module", params=["tensorflow", "jax"])
def backend(request):
    return request.param


@pytest.fixture(scope="module")
def by_one(backend, tmp_path_factory):
    """The folder of a run on one device."""
    folder = tmp_path_factory.mktemp(backend) / "one"
    trained(folder, 1, backend)
    return folder


@pytest.fixture(scope="module")
def by_two(backend, tmp_path_factory):
    """The folder of the same run on two."""
    folder = tmp_path_factory.mktemp(backend) / "two"
    trained(folder, 2, backend)
    return folder


@pytest.mark.slow
def test_two_devices_train_as_one(by_one, by_two):
    assert_same(by_two, by_one)


@pytest.mark.slow
def test_a_run_on_two_devices_goes_on_where_it_was_killed(backend, by_two, tmp_path):
    folder = tmp_path / "run"
    trained(folder, 2, backend, broken_off_after=28)
    printed = trained(folder, 2, backend)
    assert "going on after step 25 of 38" in printed
    assert (folder / "history.csv").read_bytes() == (by_two / "history.csv").read_bytes()
    for one, other in zip(weights(folder), weights(by_two), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_one_of_two_devices_can_go_on(backend, by_one, tmp_path):
    folder = tmp_path / "run"
    trained(folder, 2, backend, broken_off_after=28)
    trained(folder, 2, backend, devices=1)
    assert_same(folder, by_one)
