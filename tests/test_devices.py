"""Several devices, several processes: the weights come out as those of one device."""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from kit import TESTS, refusal

from resnet_keras.data.augmentation import (
    Augmentation,
    CutMix,
    MixUp,
    PadAndCrop,
    PCAColor,
    RandAugment,
    RandomErasing,
    ScaleJitterCrop,
)
from resnet_keras.data.epochs import WHOLE, Share
from resnet_keras.data.pipelines import numpy_pipeline, tf_pipeline
from resnet_keras.data.splits import ArraySplit
from resnet_keras.recipes import Recipe
from resnet_keras.training import devices
from resnet_keras.training.devices import DeviceGroup, select_devices
from resnet_keras.training.launch import free_address
from resnet_keras.view import View

# Trains the tiny network on what devices there are, as the program would, and writes its weights.
TRAINING = """
import contextlib, dataclasses, json, os, signal, sys
import keras
import kit
import numpy as np
from resnet_keras import Run, load_model, train
from resnet_keras.data.augmentation import CutMix
from resnet_keras.training.devices import initialize_distributed

folder, logical, settings = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
if logical > 1 and keras.backend.backend() == "tensorflow":
    import tensorflow as tf
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * logical
    )
place, broken_off_after = settings.get("place"), settings.get("broken_off_after")
augmentation = dataclasses.replace(kit.RECIPE.augmentation, flip=True, cutmix=CutMix())
recipe = dataclasses.replace(kit.RECIPE, learning_rate=0.05, augmentation=augmentation)
run = Run(folder)
with contextlib.ExitStack() as stack:
    stack.enter_context(kit.tiny_names())
    is_first = stack.enter_context(initialize_distributed(*place)) if place else True
    if broken_off_after:
        stack.enter_context(kit.interrupted_after(broken_off_after))
    callbacks = []
    if settings.get("signals_itself"):
        callbacks.append(keras.callbacks.LambdaCallback(
            on_train_batch_begin=lambda batch, logs:
                os.kill(os.getpid(), signal.SIGTERM) if batch == 7 else None
        ))
    train(
        "tiny", "digits", recipe, run, verbose=0, checkpoint_steps=5,
        devices=settings.get("devices"), callbacks=callbacks,
    )
if not is_first or broken_off_after:
    sys.exit()
weights = [np.asarray(weight) for weight in load_model(run.last_model).weights]
np.savez(run.folder / "weights.npz", *weights)
"""


def trained(folder, logical, backend, **settings):
    """A run of the tiny network on some logical devices of a CPU, in a process of its own."""
    process = start(folder, logical, backend, **settings)
    output, errors = process.communicate()
    assert process.returncode == 0, output + errors
    used = settings.get("devices", logical)
    assert (f"devices: {used}\n" in output) == (used > 1)
    return output


def start(folder, logical, backend, **settings):
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={logical}"
    return subprocess.Popen(
        [sys.executable, "-c", TRAINING, str(folder), str(logical), json.dumps(settings)],
        env={
            **os.environ,
            "KERAS_BACKEND": backend,
            "XLA_FLAGS": flags,
            "PYTHONPATH": str(TESTS),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


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
@pytest.mark.parametrize("backend", ["jax"], indirect=True)
def test_two_processes_train_as_one_and_stop_after_the_same_step(by_one, tmp_path):
    folder = tmp_path / "run"

    def both(**settings):
        address = free_address()
        processes = [
            start(folder, 1, "jax", place=[address, number, 2], **(settings if number else {}))
            for number in range(2)
        ]
        outputs = [process.communicate() for process in processes]
        return [process.returncode for process in processes], outputs

    codes, outputs = both(signals_itself=True)  # one of them alone
    steps = [
        re.search(r"stopped after step (\d+), last checkpoint: step (\d+)", errors).groups()
        for _, errors in outputs
    ]
    assert all(codes)
    assert len({number for pair in steps for number in pair}) == 1
    codes, outputs = both()
    assert codes == [0, 0], outputs
    assert all("devices: 2\n" in output for output, _ in outputs)
    assert f"after step {steps[0][0]} of 38" in outputs[0][0]
    assert_same(folder, by_one)


@pytest.mark.slow
def test_a_run_on_two_devices_goes_on_where_it_was_killed_on_two_or_one(
    backend, by_one, by_two, tmp_path
):
    folder, alone = tmp_path / "run", tmp_path / "alone"
    trained(folder, 2, backend, broken_off_after=28)
    shutil.copytree(folder, alone)
    assert "step 25 of 38" in trained(folder, 2, backend)
    assert (folder / "history.csv").read_bytes() == (by_two / "history.csv").read_bytes()
    for one, other in zip(weights(folder), weights(by_two), strict=True):
        np.testing.assert_array_equal(one, other)
    trained(alone, 2, backend, devices=1)
    assert_same(alone, by_one)


# What follows needs no training.


OF_BATCHES = Augmentation(
    PadAndCrop(), flip=True, color=PCAColor(), erasing=RandomErasing(1.0), mixup=MixUp()
)
OF_IMAGES = Augmentation(
    ScaleJitterCrop(10, 14), flip=True, mixup=MixUp(), cutmix=CutMix(), label_smoothing=0.1
)
WITH_RANDAUGMENT = Augmentation(randaugment=RandAugment(1), cutmix=CutMix())


@pytest.mark.parametrize(
    ("pipeline", "augmentation"),
    [
        (numpy_pipeline, Augmentation(PadAndCrop(), flip=True)),
        (numpy_pipeline, Augmentation(ScaleJitterCrop(10, 14), flip=True)),
        (tf_pipeline, OF_BATCHES),
        (tf_pipeline, OF_IMAGES),
        pytest.param(tf_pipeline, WITH_RANDAUGMENT, marks=pytest.mark.slow),
    ],
)
def test_the_shares_of_a_batch_make_it_whole(pipeline, augmentation):
    images = np.random.default_rng(0).integers(0, 256, (50, 12, 12, 3)).astype("uint8")
    split = ArraySplit(images, np.arange(50))

    def batch(share):
        (found,) = pipeline.training_batches(
            split,
            augmentation,
            image_size=8 if isinstance(augmentation.crop, ScaleJitterCrop) else 12,
            classes=50,
            batch_size=12,
            seed=1,
            first_step=5,
            last_step=6,
            share=share,
        )
        return found

    whole, parts = batch(WHOLE), [batch(Share(number, 3)) for number in range(3)]
    for index in range(2):
        joined = np.concatenate([part[index] for part in parts])
        np.testing.assert_array_equal(joined, whole[index])


@pytest.mark.parametrize("pipeline", [numpy_pipeline, tf_pipeline])
@pytest.mark.parametrize("images", [7, 8, 9, 16])
def test_padded_evaluation_has_the_mean_of_all_images(images, pipeline):
    values = np.arange(images) ** 2
    split = ArraySplit(np.zeros((images, 4, 4, 3), "uint8"), values)
    seen = []
    for number in range(2):
        batches = pipeline.shared_evaluation_batches(
            split, view=View(4, 4), batch_size=8, share=Share(number, 2)
        )
        seen += list(batches)
    assert all(len(labels) == len(weights) == 4 for _, labels, weights in seen)
    labels, weights = (np.concatenate([batch[index] for batch in seen]) for index in (1, 2))
    assert np.mean(labels * weights) == pytest.approx(values.mean())
    assert sorted(labels[weights > 0]) == list(values)


@pytest.mark.parametrize(("batch_size", "accepted"), [(66, "64 or 68"), (3, "4")])
def test_a_batch_that_does_not_divide_is_refused(batch_size, accepted):
    DeviceGroup(4).check(64, Recipe())
    error = refusal(DeviceGroup(4).check, batch_size, Recipe())
    assert str(batch_size) in error.received and accepted in error.accepted


@pytest.mark.parametrize("change", [{"clip_norm": 1.0}, {"accumulate": 2}])
def test_what_tensorflow_cannot_do_on_several_devices_is_refused(change):
    (name,) = change
    recipe = Recipe(**change)
    DeviceGroup(1).check(64, recipe)
    error = refusal(DeviceGroup(2).check, 64, recipe)
    assert name in error.received and "--devices 1" in error.accepted


@pytest.mark.parametrize("devices", [0, 99])
def test_devices_that_are_not_there(devices):
    assert str(devices) in refusal(select_devices, devices).received


def test_only_jax_joins_hosts():
    def join():
        with devices.initialize_distributed("127.0.0.1:9", 0, 1):
            pass

    assert "tensorflow" in refusal(join).received
