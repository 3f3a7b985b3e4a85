"""Fine-tuning: what is frozen stays to the bit, what is new comes first, and resuming holds."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from conftest import TINY
from PIL import Image

from resnet_keras import InputError, fine_tune, load_model, training
from resnet_keras.data import sources
from resnet_keras.data.arrays import Arrays
from resnet_keras.errors import Interrupted
from resnet_keras.evaluation import evaluate_run
from resnet_keras.models import Classifier, build
from resnet_keras.phases import Phase, begin, parts_of, phases
from resnet_keras.recipes import FINETUNE, QUICK, Recipe
from resnet_keras.runs import Run

PLAIN = replace(
    QUICK,
    epochs=3,
    batch_size=64,
    warmup_epochs=0,
    image_size=8,
    augmentation=Recipe().augmentation,
)
IN_PHASES = replace(PLAIN, head_epochs=1, freeze_bn=True, stage_decay=0.5, learning_rate=0.05)


@pytest.fixture(scope="module")
def digits():
    return sources.find("digits")


@pytest.fixture(scope="module")
def others(digits):
    """Two classes of the digits, by names of their own."""
    train = digits.load("train")
    kept = np.flatnonzero(np.isin(train.labels, (3, 8)))
    labels = (train.labels[kept] == 8).astype("int64")
    return Arrays((train.images[kept], labels), class_names=("three", "eight"))


@pytest.fixture(scope="module")
def learnt(tiny_network, digits, tmp_path_factory):
    """A tiny network that has seen the digits."""
    run = Run(tmp_path_factory.mktemp("learnt") / "run")
    training.train("tiny", digits, replace(PLAIN, epochs=1), run, verbose=0)
    return run


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


def tune(others, learnt, folder, **changes):
    recipe = replace(IN_PHASES, **changes)
    return fine_tune("tiny", others, learnt.folder, folder, recipe, verbose=0)


def test_the_head_alone_then_all_but_the_statistics(others, learnt, tmp_path, capsys):
    recipe = replace(IN_PHASES, epochs=3)
    tune(others, learnt, tmp_path / "run")
    said = capsys.readouterr().out
    assert "fc2 starts afresh, as it tells other classes apart" in said
    assert "epoch 1: head is trained, stem to stage4 frozen" in said
    assert "epochs 2 to 3: stem to head are trained" in said
    assert said.count("7 of 7 batch normalisations are frozen and keep their statistics") == 2
    assert said.count("each part's learning rate is 0.5 of that of the part above it") == 1
    before = load_model(learnt.best_model)
    after = load_model(Run(tmp_path / "run").last_model)
    changed = differing(after, before)
    assert not {name for name in changed if name.startswith("bn")}
    assert {"conv1", "res2a_branch2a", "res4a_branch2b"} <= changed
    assert after.layers[-1].class_names == ("three", "eight")
    rates = [row["learning_rate"] for row in Run(tmp_path / "run").read_history()]
    whole = replace(recipe, head_epochs=0, freeze_bn=False, stage_decay=1)
    training.train("tiny", others, whole, tmp_path / "whole", verbose=0)
    # One schedule over all phases.
    assert rates == [row["learning_rate"] for row in Run(tmp_path / "whole").read_history()]


@pytest.mark.parametrize(
    ("freeze", "frozen"),
    [
        ("stem", ("conv1", "bn_conv1")),
        ("stage3", ("conv1", "bn_conv1", "res2a_branch2a", "bn3a_branch2b")),
        ("backbone", ("conv1", "bn_conv1", "res2a_branch2a", "bn3a_branch2b", "res4a_branch2b")),
    ],
)
def test_what_is_frozen_stays_to_the_bit(freeze, frozen, others, learnt, tmp_path):
    tune(others, learnt, tmp_path / "run", head_epochs=0, freeze_bn=False, freeze=freeze)
    before = load_model(learnt.best_model)
    changed = differing(load_model(Run(tmp_path / "run").last_model), before)
    assert not changed & set(frozen)
    trained = {name for name in weights_of(before) if not name.startswith("fc")} - changed
    parts = {"stem": 2, "stage3": 10, "backbone": 14}
    assert len(trained) == parts[freeze]


@pytest.mark.slow
def test_a_pause_changes_nothing_wherever_it_comes(others, learnt, tmp_path, monkeypatch):
    recipe = replace(IN_PHASES, ema=0.9, accumulate=2)

    def to_the_end(folder):
        training.train(
            "tiny", others, recipe, folder, weights=learnt.folder, checkpoint_steps=2, verbose=0
        )

    to_the_end(tmp_path / "whole")
    whole = Run(tmp_path / "whole")
    steps = 4  # an epoch
    for step in (1, steps, steps + 2, 2 * steps):
        run = Run(tmp_path / f"broken{step}")
        with monkeypatch.context() as patch:
            stop_after(patch, step)
            with pytest.raises(Interrupted):
                to_the_end(run.folder)
        to_the_end(run.folder)
        assert not differing(load_model(run.last_model), load_model(whole.last_model))
        assert run.read_history() == whole.read_history()


def stop_after(patch, step):
    from resnet_keras.recorder import Recorder

    def is_to_stop(recorder):
        recorder._signal = 2 if recorder.step == step else 0
        return recorder._signal != 0

    patch.setattr(Recorder, "_is_to_stop", is_to_stop)


def test_a_run_that_was_stopped_before_its_first_checkpoint_has_its_weights(
    others, learnt, tmp_path, monkeypatch
):
    recipe = replace(PLAIN, epochs=1)
    training.train("tiny", others, recipe, tmp_path / "whole", weights=learnt.folder, verbose=0)

    class Killed(BaseException):
        pass

    def kill(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(training, "_fit", kill)
        with pytest.raises(Killed):
            training.train(
                "tiny", others, recipe, tmp_path / "run", weights=learnt.folder, verbose=0
            )
    training.train("tiny", others, recipe, tmp_path / "run", weights=learnt.folder, verbose=0)
    runs = [load_model(Run(tmp_path / name).last_model) for name in ("run", "whole")]
    assert not differing(*runs)


def test_a_run_goes_on_with_the_preprocessing_of_its_weights(others, learnt, tmp_path, monkeypatch):
    odd = replace(TINY, preprocessing=replace(TINY.preprocessing, mean=(1.0, 2.0, 3.0)))
    head = Classifier(10, class_names=tuple(map(str, range(10))))
    model = build(odd, (8, 8, 3), head)
    weights = weights_of(load_model(learnt.best_model))
    for layer in model.layers:
        if layer.weights:
            layer.set_weights(weights[layer.name])
    model.save(tmp_path / "odd.keras")
    recipe = replace(PLAIN, epochs=2)
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        with pytest.raises(Interrupted):
            training.train(
                "tiny", others, recipe, tmp_path / "run", weights=tmp_path / "odd.keras", verbose=0
            )
    training.train(
        "tiny", others, recipe, tmp_path / "run", weights=tmp_path / "odd.keras", verbose=0
    )
    found = load_model(Run(tmp_path / "run").last_model).get_layer("normalize")
    np.testing.assert_allclose(
        -np.array(found.offset) / np.array(found.scale), (1, 2, 3), rtol=1e-6
    )


def test_the_classifier_is_kept_where_the_classes_are_the_same(digits, learnt, tmp_path, capsys):
    recipe = replace(PLAIN, epochs=1, learning_rate=1e-9)
    training.train("tiny", digits, recipe, tmp_path / "run", weights=learnt.folder, verbose=0)
    assert "afresh" not in capsys.readouterr().out
    models = [load_model(run.last_model) for run in (Run(tmp_path / "run"), learnt)]
    np.testing.assert_allclose(*(model.layers[-1].get_weights()[0] for model in models), atol=1e-6)
    # As many classes, by other names.
    train = digits.load("train")
    renamed = Arrays((train.images, train.labels), class_names=tuple("abcdefghij"))
    training.train("tiny", renamed, recipe, tmp_path / "other", weights=learnt.folder, verbose=0)
    assert "fc10 starts afresh" in capsys.readouterr().out


def test_another_size_of_images(others, learnt, tmp_path):
    tune(others, learnt, tmp_path / "run", image_size=12)
    assert load_model(Run(tmp_path / "run").best_model).input_shape == (None, 12, 12, 3)


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
    from resnet_keras.optimizers import optimizer

    for name in ("sgd", "lamb"):
        moved = []
        for factor in (1.0, 0.25):
            variables = [keras.Variable(np.ones((2, 2)), dtype="float32") for _ in range(2)]
            recipe = replace(PLAIN, optimizer=name, l2=0.0, warmup_epochs=0)
            made = optimizer(recipe, 5, rate_factors=(1.0, factor))
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
    with pytest.raises(InputError, match=r"'stage9'; did you mean stage"):
        phases(model, replace(IN_PHASES, freeze="stage9"))
    assert [FINETUNE.in_epochs(epochs).head_epochs for epochs in (1, 2, 10, 30)] == [1, 1, 2, 3]


def test_a_recipe_that_keeps_weights_wants_some(others, tmp_path):
    with pytest.raises(InputError, match="accepted: --weights"):
        training.train("tiny", others, "finetune", tmp_path / "run", verbose=0)
    assert not (tmp_path / "run").exists()


def test_nothing_is_touched_where_weights_do_not_fit(others, learnt, tmp_path):
    with pytest.raises(InputError, match="these are weights of tiny"):
        training.train(
            "resnet20", others, PLAIN, tmp_path / "run", weights=learnt.folder, verbose=0
        )
    assert not (tmp_path / "run").exists()


# The whole way, as a user would go it.

LOW, HIGH = range(5), range(5, 10)


@pytest.fixture(scope="module")
def low_digits(digits, tmp_path_factory):
    """ResNet-20 that has learnt the digits 0 to 4."""
    run = Run(tmp_path_factory.mktemp("low") / "run")
    recipe = replace(QUICK, epochs=8, image_size=16)
    training.train("resnet20", of_classes(digits, LOW), recipe, run, verbose=0)
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
        training.train("resnet20", str(high_digits), recipe, run, weights=weights, verbose=0)
        errors[name] = evaluate_run(run, verbose=0).top1_error
    assert errors["fine-tuned"] < errors["from scratch"] - 0.05
