"""Several devices, several processes: the weights come out as those of one device."""

import json
import os
import re
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

# Trains the tiny network, once for each of the given trainings, and writes what each printed and
# its weights.
TRAINING = """
import contextlib, dataclasses, io, json, os, shutil, signal, sys
import keras
import kit
import numpy as np
from resnet_keras import Run, load_model, train
from resnet_keras.data.augmentation import CutMix
from resnet_keras.training.devices import initialize_distributed

logical, place, trainings = int(sys.argv[1]), *json.loads(sys.argv[2])
if logical > 1 and keras.backend.backend() == "tensorflow":
    import tensorflow as tf
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * logical
    )
augmentation = dataclasses.replace(kit.RECIPE.augmentation, flip=True, cutmix=CutMix())
recipe = dataclasses.replace(kit.RECIPE, learning_rate=0.05, augmentation=augmentation)

def stop(batch, logs):
    if batch == 7:
        os.kill(os.getpid(), signal.SIGTERM)

def training(folder, devices=None, copy_of=None, killed_after=None, signals_itself=False):
    if copy_of:
        shutil.copytree(copy_of, folder)
    callbacks = [keras.callbacks.LambdaCallback(on_train_batch_begin=stop)] * signals_itself
    kill = kit.interrupted_after(killed_after) if killed_after else contextlib.nullcontext()
    run = Run(folder)
    with kill:
        train(
            "tiny", "digits", recipe, run, verbose=0, checkpoint_steps=5, devices=devices,
            callbacks=callbacks,
        )

hosts = initialize_distributed(*place) if place else contextlib.nullcontext(True)
with kit.tiny_names(), hosts as is_first:
    for settings in trainings:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            training(**settings)
        print(printed.getvalue())
        if is_first:
            Run(settings["folder"]).folder.joinpath("printed.txt").write_text(printed.getvalue())

# Afterwards: inside, one process alone would wait for the other.
for folder in {settings["folder"] for settings in trainings} if is_first else ():
    run = Run(folder)
    weights = [np.asarray(weight) for weight in load_model(run.last_model).weights]
    np.savez(run.folder / "weights.npz", *weights)
"""


def start(backend, logical, *trainings, place=None):
    """A process that does the trainings on some logical devices of a CPU.

    Args:
        backend: Keras's.
        logical: number of devices.
        trainings: arguments of the script's `training`.
        place: address, number and number of processes, of one of several processes.
    """
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={logical}"
    return subprocess.Popen(
        [sys.executable, "-c", TRAINING, str(logical), json.dumps([place, trainings])],
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


def printed(folder):
    return (folder / "printed.txt").read_text()


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
def runs(request, tmp_path_factory):
    """A folder with a run on one device, one on two, and two that were killed on two.

    Of these, "resumed" went on on two, "alone" on one.
    """
    folder = tmp_path_factory.mktemp(request.param)
    one, two, resumed, alone = (str(folder / name) for name in ("one", "two", "resumed", "alone"))
    process = start(
        request.param,
        2,
        {"folder": one, "devices": 1},
        {"folder": two},
        {"folder": resumed, "killed_after": 28},
        {"folder": alone, "copy_of": resumed, "devices": 1},
        {"folder": resumed},
    )
    output, errors = process.communicate()
    assert process.returncode == 0, output + errors
    return folder


@pytest.mark.slow
def test_two_devices_train_as_one(runs):
    assert "devices: 2\n" in printed(runs / "two")
    assert "devices:" not in printed(runs / "one")
    assert_same(runs / "two", runs / "one")


@pytest.mark.slow
def test_a_run_on_two_devices_goes_on_where_it_was_killed_on_two_or_one(runs):
    resumed, two = runs / "resumed", runs / "two"
    assert "devices: 2\n" in printed(resumed) and "step 25 of 38" in printed(resumed)
    assert (resumed / "history.csv").read_bytes() == (two / "history.csv").read_bytes()
    for one, other in zip(weights(resumed), weights(two), strict=True):
        np.testing.assert_array_equal(one, other)
    assert "devices:" not in printed(runs / "alone")
    assert "step 25 of 38" in printed(runs / "alone")
    assert_same(runs / "alone", runs / "one")


@pytest.mark.slow
@pytest.mark.parametrize("runs", ["jax"], indirect=True)
def test_two_processes_train_as_one_and_stop_after_the_same_step(runs, tmp_path):
    folder = tmp_path / "run"

    def both(**settings):
        address = free_address()
        processes = [
            start(
                "jax",
                1,
                {"folder": str(folder), **(settings if number else {})},
                place=[address, number, 2],
            )
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
    assert_same(folder, runs / "one")


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
