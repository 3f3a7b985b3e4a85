"""Fine-tuning: what is frozen stays to the bit, what is new comes first, and resuming holds."""

import signal
from dataclasses import replace
from functools import partial

import keras
import kit
import numpy as np
import pytest
from kit import TINY, refusal
from PIL import Image

from resnet_keras import fine_tune, load_model
from resnet_keras.data import sources
from resnet_keras.data.arrays import Arrays
from resnet_keras.evaluation.evaluate import evaluate_run
from resnet_keras.networks.loading import read_weights
from resnet_keras.networks.models import Classifier, build
from resnet_keras.recipes import FINETUNE, QUICK, Recipe
from resnet_keras.runs.run import Run
from resnet_keras.training import optimizers
from resnet_keras.training import train as training
from resnet_keras.training.fine_tuning import Phase, begin, parts_of, phases

pytestmark = pytest.mark.usefixtures("tiny_network")

PLAIN = replace(
    QUICK,
    epochs=3,
    batch_size=64,
    warmup_epochs=0,
    image_size=8,
    augmentation=Recipe().augmentation,
)
IN_PHASES = replace(PLAIN, head_epochs=1, freeze_bn=True, stage_decay=0.5, learning_rate=0.05)
STEPS = 4  # an epoch of `others`

train = partial(training.train, verbose=0, log_diagnostics=False)


@pytest.fixture(scope="module")
def digits():
    return sources.find("digits")


@pytest.fixture(scope="module")
def others(digits):
    """Two classes of the digits, by names of their own."""
    images = digits.load("train")
    kept = np.flatnonzero(np.isin(images.labels, (3, 8)))
    labels = (images.labels[kept] == 8).astype("int64")
    return Arrays((images.images[kept], labels), class_names=("three", "eight"))


@pytest.fixture(scope="module")
def learnt():
    """A run of a tiny network that has seen the digits; not to be changed."""
    return kit.finished_run()


def weights_of(model):
    return {layer.name: layer.get_weights() for layer in model.layers if layer.weights}


def differing(model, other):
    """The layers whose weights are not the same to the bit."""
    theirs = weights_of(other)
    return {
        name
        for name, values in weights_of(model).items()
        if name in theirs
        and not all(
            np.array_equal(one, other) for one, other in zip(values, theirs[name], strict=True)
        )
    }


def test_the_head_alone_then_all_but_the_statistics(others, learnt, tmp_path, capsys):
    run = Run(tmp_path / "run")
    best = fine_tune(
        "tiny", others, learnt.folder, run, IN_PHASES, verbose=0, log_diagnostics=False
    )
    said = capsys.readouterr().out
    assert "fc2" in said  # starts afresh
    assert said.count("7 of 7 batch normalisations") == 2
    before, after = load_model(learnt.best_model), load_model(run.last_model)
    changed = differing(after, before)
    assert not {name for name in changed if name.startswith("bn")}
    assert {"conv1", "res2a_branch2a", "res4a_branch2b"} <= changed
    assert best.layers[-1].class_names == after.layers[-1].class_names == ("three", "eight")
    # One schedule over all phases.
    schedule = optimizers.schedule(IN_PHASES, STEPS)
    rates = [float(schedule(STEPS * epoch)) for epoch in (1, 2, 3)]
    found = [row["learning_rate"] for row in run.read_history()]
    np.testing.assert_allclose(found, rates, rtol=1e-6, atol=1e-9)


def test_what_is_frozen_stays_to_the_bit_at_another_size_of_images(others, learnt, tmp_path):
    run = Run(tmp_path / "run")
    recipe = replace(IN_PHASES, epochs=1, head_epochs=0, freeze_bn=False, freeze="stage3")
    train("tiny", others, replace(recipe, image_size=12), run, weights=learnt.folder)
    before, after = load_model(learnt.best_model), load_model(run.last_model)
    assert after.input_shape == (None, 12, 12, 3)
    trained = differing(after, before)
    frozen = {name for name in weights_of(before) if not name.startswith("fc")} - trained
    assert len(frozen) == 10
    assert {"conv1", "bn_conv1", "res2a_branch2a", "bn3a_branch2b"} <= frozen


@pytest.mark.parametrize(("freeze", "layers"), [("stem", 2), ("stage3", 10), ("backbone", 14)])
def test_frozen_parts_are_not_trainable(freeze, layers):
    model = build(TINY, (8, 8, 3))
    recipe = replace(IN_PHASES, head_epochs=0, freeze_bn=False, freeze=freeze)
    (phase,) = phases(model, recipe)
    begin(model, phase, recipe)
    frozen = [layer for layer in model.layers if layer.weights and not layer.trainable]
    assert len(frozen) == layers


@pytest.mark.slow
def test_pauses_change_nothing_wherever_they_come(others, learnt, tmp_path):
    recipe = replace(IN_PHASES, ema=0.9, accumulate=2)
    whole, run = Run(tmp_path / "whole"), Run(tmp_path / "paused")
    tune = partial(train, "tiny", others, recipe, weights=learnt.folder, checkpoint_steps=2)
    tune(whole)
    for step in (1, STEPS, STEPS + 2, 2 * STEPS):
        with kit.interrupted_after(step, signal.SIGTERM):
            tune(run)
    tune(run)
    assert not differing(load_model(run.last_model), load_model(whole.last_model))
    assert run.read_history() == whole.read_history()


@pytest.mark.slow
def test_a_run_that_began_again_has_its_weights_and_their_preprocessing(others, learnt, tmp_path):
    odd = replace(TINY, preprocessing=replace(TINY.preprocessing, mean=(1.0, 2.0, 3.0)))
    head = Classifier(10, class_names=tuple(map(str, range(10))))
    model = build(odd, (8, 8, 3), head)
    for name, weights in weights_of(load_model(learnt.best_model)).items():
        model.get_layer(name).set_weights(weights)
    model.save(tmp_path / "odd.keras")
    recipe = replace(PLAIN, epochs=1)
    whole, killed = Run(tmp_path / "whole"), Run(tmp_path / "killed")
    tune = partial(train, "tiny", others, recipe, weights=tmp_path / "odd.keras")
    tune(whole)
    with kit.interrupted_after(2):  # before its first checkpoint
        tune(killed)
    with kit.interrupted_after(3, signal.SIGTERM):
        tune(killed)
    tune(killed)
    found, expected = (load_model(run.last_model) for run in (killed, whole))
    assert not differing(found, expected)
    normalize = found.get_layer("normalize")
    np.testing.assert_allclose(
        -np.array(normalize.offset) / np.array(normalize.scale), (1, 2, 3), rtol=1e-6
    )


def test_a_classifier_of_as_many_classes_by_other_names_is_left_out(learnt):
    stored = read_weights(learnt.folder, "tiny", TINY)
    assert "fc10" in stored.for_classes(tuple("0123456789")).weights
    assert "fc10" not in stored.for_classes(tuple("abcdefghij")).weights


def test_learning_rates_fall_towards_the_stem():
    model = build(TINY, (8, 8, 3))
    recipe = replace(IN_PHASES, freeze_bn=False)
    factors = begin(model, phases(model, recipe)[1], recipe)
    by_layer = {
        weight.path.split("/")[-2]: factor
        for weight, factor in zip(model.trainable_variables, factors, strict=True)
    }
    assert parts_of(model) == ("stem", "stage2", "stage3", "stage4", "head")
    assert by_layer["fc10"] == 1
    assert by_layer["bn4a_branch2b"] == 0.5
    assert by_layer["conv1"] == by_layer["bn_conv1"] == 0.5**4


def test_an_update_is_as_large_as_its_rate_factor():
    for name in ("sgd", "lamb"):
        moved = []
        for factor in (1.0, 0.25):
            variables = [keras.Variable(np.ones((2, 2)), dtype="float32") for _ in range(2)]
            recipe = replace(PLAIN, optimizer=name, l2=0.0, warmup_epochs=0)
            made = optimizers.optimizer(recipe, 5, rate_factors=(1.0, factor))
            made.apply([np.full((2, 2), 0.1, "float32")] * 2, variables)
            moved.append([np.abs(np.asarray(variable) - 1).max() for variable in variables])
        (whole, same), (first, quarter) = moved
        assert whole == pytest.approx(same) == pytest.approx(first)
        assert quarter == pytest.approx(whole / 4, rel=1e-4)


def test_phases_of_recipes():
    model = build(TINY, (8, 8, 3))
    parts = parts_of(model)
    assert phases(model, PLAIN) == [Phase(0, 3, (), parts)]
    assert phases(model, IN_PHASES) == [
        Phase(0, 1, parts[:-1], ("head",)),
        Phase(1, 3, (), parts),
    ]
    for only_head in ({"head_epochs": 5}, {"freeze": "backbone"}):
        recipe = replace(IN_PHASES, **only_head)
        assert phases(model, recipe) == [Phase(0, 3, parts[:-1], ("head",))]
    error = refusal(phases, model, replace(IN_PHASES, freeze="stage9"))
    assert "stage9" in error.received and "stage" in error.accepted
    assert [FINETUNE.in_epochs(epochs).head_epochs for epochs in (1, 2, 10, 30)] == [1, 1, 2, 3]


def test_a_recipe_that_keeps_weights_wants_some(others, tmp_path):
    assert "--weights" in refusal(train, "tiny", others, "finetune", tmp_path / "run").accepted
    assert not (tmp_path / "run").exists()


def test_nothing_is_touched_where_weights_do_not_fit(others, learnt, tmp_path):
    run = tmp_path / "run"
    error = refusal(train, "resnet20", others, PLAIN, run, weights=learnt.folder)
    assert "tiny" in str(error)
    assert not run.exists()


# The whole way, as a user would go it.

LOW, HIGH = range(5), range(5, 10)


@pytest.fixture(scope="module")
def low_digits(digits, tmp_path_factory):
    """ResNet-20 that has learnt the digits 0 to 4."""
    run = Run(tmp_path_factory.mktemp("low") / "run")
    recipe = replace(QUICK, epochs=8, image_size=16)
    train("resnet20", of_classes(digits, LOW), recipe, run, log_diagnostics=False)
    return run


def of_classes(digits, classes):
    def chosen(split):
        kept = np.flatnonzero(np.isin(split.labels, classes))
        return split.images[kept], split.labels[kept] - classes[0]

    return Arrays(
        chosen(digits.load("train")), class_names=tuple(f"digit {number}" for number in classes)
    )


@pytest.fixture(scope="module")
def high_digits(digits, tmp_path_factory):
    """A folder of the digits 5 to 9: 20 images of each to learn from, the others to test on."""
    folder = tmp_path_factory.mktemp("high") / "photos"
    for name, split in (("train", "train"), ("val", "validation"), ("test", "test")):
        images = digits.load(split)
        for number in HIGH:
            place = folder / name / f"digit {number}"
            place.mkdir(parents=True)
            for index in np.flatnonzero(images.labels == number)[: 20 if name == "train" else None]:
                Image.fromarray(images.image(index)).save(place / f"{index}.png")
    return folder


@pytest.mark.slow
def test_what_was_learnt_helps_with_other_digits(low_digits, high_digits, tmp_path):
    budget = {"epochs": 10, "batch_size": 10, "image_size": 16, "learning_rate": 0.05}
    scratch = replace(QUICK, **budget)
    tuned = replace(
        FINETUNE,
        **budget,
        head_epochs=2,
        freeze_bn=False,
        augmentation=QUICK.augmentation,
        centre=1.0,
    )
    errors = {}
    for name, recipe, weights in (
        ("from scratch", scratch, None),
        ("fine-tuned", tuned, low_digits.folder),
    ):
        run = Run(tmp_path / name)
        train(
            "resnet20",
            str(high_digits),
            recipe,
            run,
            weights=weights,
            log_diagnostics=False,
        )
        errors[name] = evaluate_run(run, verbose=0).top1_error
    assert errors["fine-tuned"] < errors["from scratch"] - 0.05
