"""Files of models and weights: round trips, other networks, damage, golden files."""

import functools
import io
import json
import runpy
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from kit import TINY, answers, pixels, randomize, refusal, run_python, tiny

from resnet_keras.architectures import NETWORKS, OPTION_A, OPTION_B, OPTION_C, RESNET50
from resnet_keras.networks.feature_maps import features
from resnet_keras.networks.loading import load_model, load_weights
from resnet_keras.networks.models import Features, build, create

GOLDEN = Path(__file__).parent / "fixtures" / "golden_model"
SUFFIXES = (".keras", ".weights.h5")


def save(model, folder, suffix):
    path = folder / f"model{suffix}"
    model.save(path) if suffix == ".keras" else model.save_weights(path)
    return path


def parts_of(file):
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def assert_weights(model, expected):
    for found, value in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(found, value)


@functools.cache
def saved(suffix):
    """The bytes of a file of TINY."""
    with tempfile.TemporaryDirectory() as folder:
        return save(build(TINY), Path(folder), suffix).read_bytes()


@functools.cache
def network():
    """One of TINY that no test changes."""
    return randomize(build(TINY, name="tiny"))


# --- saved and loaded ---


@pytest.mark.parametrize(("suffix", "path_type"), [(".keras", str), (".weights.h5", Path)])
def test_weights_are_loaded_from_both_formats(tmp_path, suffix, path_type, tiny_network):
    path = save(network(), tmp_path, suffix)
    loaded = create("tiny", weights=path_type(path))
    assert_weights(loaded, network().get_weights())
    x = pixels(2, 32, 32, 3)
    np.testing.assert_allclose(answers(loaded, x), answers(network(), x), atol=1e-6)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_weights_of_a_model_with_an_optimizer_are_loaded(tmp_path, suffix):
    model = build(TINY)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy")
    model.optimizer.build(model.trainable_variables)
    path = save(model, tmp_path, suffix)
    # Its momenta lie in the same file.
    weights = io.BytesIO(parts_of(path)["model.weights.h5"]) if suffix == ".keras" else path
    with h5py.File(weights) as file:
        assert len(file["optimizer/vars"]) > len(model.trainable_variables)
    loaded = build(TINY)
    load_weights(loaded, path)
    assert_weights(loaded, model.get_weights())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_trunk_takes_the_weights_of_a_classifier(tmp_path, suffix):
    trunk = build(TINY, (None, None, 3), Features())
    load_weights(trunk, save(network(), tmp_path, suffix))
    assert_weights(trunk, network().get_weights()[:-2])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_weights_in_bfloat16_are_loaded(tmp_path, suffix):
    keras.config.set_dtype_policy("bfloat16")
    half = build(TINY)
    keras.config.set_dtype_policy("float32")
    model = build(TINY)
    load_weights(model, save(half, tmp_path, suffix))
    assert_weights(model, [np.asarray(weight, "float32") for weight in half.get_weights()])


@pytest.mark.parametrize(
    "architecture",
    [
        replace(TINY, shortcut=OPTION_A),
        tiny(RESNET50, (1, 2), shortcut=OPTION_C),
        tiny(NETWORKS["resnet50-course"], (1, 1), shortcut=OPTION_A),
    ],
    ids=["cifar", "imagenet", "course"],
)
def test_saved_models_answer_the_same_when_loaded(tmp_path, architecture):
    model = randomize(build(architecture))
    loaded = load_model(save(model, tmp_path, ".keras"))
    assert loaded.name == model.name
    x = pixels(3, 32, 32, 3)
    np.testing.assert_allclose(answers(loaded, x), answers(model, x), atol=1e-6)


def test_features_of_a_loaded_network(tmp_path):
    loaded = load_model(save(network(), tmp_path, ".keras"))
    x = pixels(1, 32, 32, 3)
    expected, found = features(network())(x), features(loaded)(x)
    for stage in ("C2", "C3", "C4"):
        np.testing.assert_allclose(found[stage], expected[stage], atol=1e-6)


def test_saved_models_keep_a_mixed_policy(tmp_path, mixed_bfloat16):
    model = randomize(build(TINY))
    path = save(model, tmp_path, ".keras")
    x = pixels(3, 32, 32, 3)
    expected = answers(model, x)
    # The policy is the file's, whatever the process has.
    keras.config.set_dtype_policy("float32")
    loaded = load_model(path)
    assert loaded.get_layer("conv1").compute_dtype == "bfloat16"
    assert loaded.get_layer("normalize").compute_dtype == "float32"
    assert loaded.get_layer("fc10").compute_dtype == "float32"
    np.testing.assert_array_equal(answers(loaded, x), expected)
    # Weights go to a network of another policy.
    other = build(TINY)
    load_weights(other, path)
    assert other.get_layer("conv1").compute_dtype == "float32"


def test_keras_alone_loads_our_files(tmp_path):
    path = save(network(), tmp_path, ".keras")
    loaded = keras.saving.load_model(path, safe_mode=True)
    x = pixels(3, 32, 32, 3)
    np.testing.assert_allclose(answers(loaded, x), answers(network(), x), atol=1e-6)


KERAS_ALONE = """
import keras, resnet_keras
import numpy as np

for policy in ("float32", "mixed_bfloat16"):
    model = keras.saving.load_model(f"{policy}.keras", safe_mode=True)
    np.save(f"{policy}.npy", model(np.load("x.npy")))
"""


@pytest.mark.slow
def test_keras_alone_loads_our_files_when_imported_before_us(tmp_path):
    expected = {}
    x = pixels(3, 32, 32, 3)
    for policy in ("float32", "mixed_bfloat16"):
        keras.config.set_dtype_policy(policy)
        model = randomize(build(TINY))
        model.save(tmp_path / f"{policy}.keras")
        expected[policy] = answers(model, x)
    np.save(tmp_path / "x.npy", x)
    run_python(KERAS_ALONE, cwd=tmp_path)
    for policy, scores in expected.items():
        np.testing.assert_allclose(np.load(tmp_path / f"{policy}.npy"), scores, atol=1e-6)


# --- weights that do not fit ---


@pytest.mark.parametrize(
    ("changes", "suffix", "problem", "received", "accepted"),
    [
        ({"filters": (4, 8, 12)}, ".keras", "'res4a_branch2a'", "(3, 3, 8, 12)", "(3, 3, 8, 16)"),
        ({"classes": 5}, ".weights.h5", "'fc10'", "no such layer", "(16, 10)"),
        # Files with every layer of the network: only what is left over tells them apart.
        ({"blocks": (1, 2, 1)}, ".keras", "another network", "3b_branch2", "'tiny'"),
        ({"shortcut": OPTION_B}, ".weights.h5", "another network", "3a_branch1", "'tiny'"),
    ],
    ids=["filters", "classes", "deeper", "projections"],
)
def test_weights_of_another_network_are_refused_and_nothing_changes(
    tmp_path, changes, suffix, problem, received, accepted
):
    path = save(build(replace(TINY, **changes)), tmp_path, suffix)
    before = network().get_weights()
    error = refusal(load_weights, network(), path)
    assert problem in error.problem
    assert received in error.received and str(path) in error.received
    assert accepted in error.accepted
    assert_weights(network(), before)


def test_weights_of_a_shallower_network_are_refused(tmp_path):
    path = save(network(), tmp_path, ".weights.h5")
    error = refusal(load_weights, build(replace(TINY, blocks=(1, 2, 1))), path)
    assert "'res3b_branch2a'" in error.problem and "no such layer" in error.received


# --- damaged files ---


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("damage", ["empty", "garbage", "truncated", "header"])
def test_damaged_weights_are_refused_and_nothing_changes(tmp_path, suffix, damage):
    data = saved(suffix)
    path = tmp_path / f"model{suffix}"
    path.write_bytes(
        {
            "empty": b"",
            "garbage": b"not a model at all\n" * 100,
            "truncated": data[: len(data) // 2],
            "header": b"\0" * 16 + data[16:],
        }[damage]
    )
    before = network().get_weights()
    assert str(path) in refusal(load_weights, network(), path).received
    assert_weights(network(), before)


def without_classifier(data):
    config = json.loads(data)
    config["config"]["layers"].pop()
    return json.dumps(config)


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("config.json", lambda data: None),
        ("config.json", lambda data: b"[]"),
        ("config.json", lambda data: b"{"),
        ("config.json", lambda data: b"\xff\xfe"),
        ("config.json", lambda data: data.replace(b"BatchNormalization", b"NoNormalization")),
        ("config.json", without_classifier),
        ("model.weights.h5", lambda data: None),
        ("model.weights.h5", lambda data: b""),
        ("model.weights.h5", lambda data: data[:1000]),
    ],
    ids=[
        "no-config",
        "list",
        "half",
        "bytes",
        "unknown-layer",
        "lost-layer",
        "no-weights",
        "empty",
        "cut",
    ],
)
def test_model_files_with_bad_parts_are_refused(tmp_path, part, change):
    parts = parts_of(io.BytesIO(saved(".keras")))
    changed = change(parts.pop(part))
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
        if changed is not None:
            archive.writestr(part, changed)
    assert str(path) in refusal(load_model, path).received


def test_flipped_bytes_are_noticed_before_hdf5_sees_them(tmp_path, monkeypatch):
    data = bytearray(saved(".keras"))
    # Into the weights, which fill the file's second half: HDF5 keeps no checksum of them.
    data[len(data) * 3 // 4] ^= 0xFF
    path = tmp_path / "model.keras"
    path.write_bytes(data)
    calls = []
    monkeypatch.setattr(keras.saving, "load_model", calls.append)
    assert "model.weights.h5" in refusal(load_model, path).received
    assert not calls


def test_python_code_in_a_model_file_is_refused(tmp_path):
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Lambda(lambda x: x * 2)(inputs))
    path = tmp_path / "lambda.keras"
    model.save(path)
    assert str(path) in refusal(load_model, path).received


def test_model_files_that_are_folders_or_missing_are_refused(tmp_path):
    for path in (tmp_path, tmp_path / "missing.keras"):
        assert refusal(load_model, path).received == str(path)


@pytest.mark.parametrize(
    "content",
    [
        lambda file: None,
        lambda file: file.create_dataset("layers", data=[1, 2]),
        lambda file: file.create_dataset("layers/conv2d", data=[1, 2]),
        lambda file: file.create_dataset("layers/conv2d/vars", data=[1, 2]),
        lambda file: file.create_group("layers/conv2d/vars"),
    ],
    ids=["empty", "layers", "layer", "vars", "no-name"],
)
def test_hdf5_files_of_something_else_are_refused(tmp_path, content):
    path = tmp_path / "other.weights.h5"
    with h5py.File(path, "w") as file:
        content(file)
    assert str(path) in refusal(load_weights, network(), path).received


# --- the golden models ---


@functools.cache
def golden(name):
    return load_model(GOLDEN / f"{name}.keras")


@pytest.mark.parametrize(
    ("name", "expected"), [("model", "expected"), ("bottleneck", "bottleneck_expected")]
)
def test_golden_models_answer_as_they_did(name, expected):
    """Files of earlier versions load and mean the same; tests/make_golden.py wrote them once."""
    scores = answers(golden(name), np.load(GOLDEN / "inputs.npy"))
    np.testing.assert_allclose(scores, np.load(GOLDEN / f"{expected}.npy"), atol=1e-5)


@pytest.mark.parametrize("name", ["model", "bottleneck"])
def test_golden_models_weights_fit_today_s_networks(name):
    architectures = runpy.run_path(str(GOLDEN.parents[1] / "make_golden.py"))["MODELS"]
    model = build(architectures[name])
    load_weights(model, GOLDEN / f"{name}.keras")
    assert_weights(model, golden(name).get_weights())


def test_golden_models_are_small():
    assert sum(path.stat().st_size for path in GOLDEN.iterdir()) < 200_000
