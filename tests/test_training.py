"""Training through the real entry point: one tiny network, a few steps."""

import dataclasses
import re
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from resnet_keras import architectures, recipes, recorder, report, training
from resnet_keras.checkpoints import Checkpoint, Checkpoints
from resnet_keras.data import sources
from resnet_keras.data.augmentation import Augmentation, CutMix, MixUp, PadAndCrop
from resnet_keras.errors import InputError, TrainingError
from resnet_keras.evaluation import (
    evaluate_run,
    load_run_model,
    read_evaluation,
    write_evaluation,
)
from resnet_keras.loading import load_model
from resnet_keras.recipes import Recipe
from resnet_keras.runs import Run, best_row

pytestmark = pytest.mark.usefixtures("tiny_network")

RECIPE = Recipe(
    epochs=2,
    batch_size=64,
    learning_rate=0.1,
    zero_init_last_gamma=True,
    augmentation=Augmentation(PadAndCrop()),
    image_size=8,
    precision="float32",
)


@pytest.fixture(scope="module")
def digits():
    return sources.find("digits")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_network, digits):
    """A finished run, not to be changed."""
    run = Run(tmp_path_factory.mktemp("runs") / "finished")
    training.train("tiny", digits, RECIPE, run, verbose=0)
    return run


@pytest.fixture
def run(finished, tmp_path):
    """A copy of the finished run."""
    shutil.copytree(finished.folder, tmp_path / "run")
    return Run(tmp_path / "run")


def contents(folder):
    return {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_a_run_leaves_its_folder(finished, digits):
    details, history = finished.read_details(), finished.read_history()
    assert (details.network, details.data, details.image_size) == ("tiny", "digits", 8)
    assert (details.recipe, details.finished) == (RECIPE, True)
    assert [row["epoch"] for row in history] == [1, 2]
    assert history[1]["loss"] < history[0]["loss"] < 3
    speeds = finished.read_speeds()
    assert [row["epoch"] for row in speeds] == [1, 2]
    assert all(row["images_per_second"] > 0 for row in speeds)
    assert not finished.checkpoints.exists()
    best = best_row(history)
    split = digits.load("validation")
    right = load_model(finished.best_model).predict(split.images, verbose=0).argmax(1)
    assert np.mean(right != split.labels) == pytest.approx(best["validation_top1_error"])
    last = load_model(finished.last_model)
    assert int(last.optimizer.iterations) == 2 * (1257 // 64)


def test_learning_rate_in_the_history_is_the_schedules(finished):
    first, second = (row["learning_rate"] for row in finished.read_history())
    assert first == pytest.approx(0.05)
    assert second == pytest.approx(0, abs=1e-6)


def test_a_finished_run_is_left_alone(finished, digits, capsys):
    before = contents(finished.folder)
    training.train("tiny", digits, RECIPE, finished, verbose=0)
    assert "is finished (epochs: 2)" in capsys.readouterr().out
    assert contents(finished.folder) == before


@pytest.mark.parametrize(
    ("network", "shortcut", "changes", "words"),
    [
        ("resnet20", None, {}, "network is 'tiny' there and 'resnet20' here"),
        ("tiny", "B", {}, "shortcut was not given there and is 'B' here"),
        ("tiny", None, {"epochs": 9}, "epochs is 2 there and 9 here"),
        ("tiny", None, {"seed": 1, "l2": 0.0}, "l2 is 0.0001 there and 0.0 here; seed is 0"),
    ],
)
def test_another_run_in_the_folder_is_refused(finished, digits, network, shortcut, changes, words):
    before = contents(finished.folder)
    recipe = dataclasses.replace(RECIPE, **changes)
    with pytest.raises(InputError) as error:
        training.train(network, digits, recipe, finished, shortcut, verbose=0)
    assert words in str(error.value)
    assert contents(finished.folder) == before


def test_training_starts_from_weights_and_keeps_which(finished, digits, tmp_path):
    run = Run(tmp_path / "run")
    recipe = dataclasses.replace(RECIPE, learning_rate=1e-6, epochs=1)
    training.train("tiny", digits, recipe, run, weights=finished.last_model, verbose=0)
    (row,) = run.read_history()
    assert row["loss"] == pytest.approx(finished.read_history()[-1]["loss"], rel=0.05)
    assert run.read_details().weights == str(finished.last_model)
    with pytest.raises(InputError, match="weights is '.*last.keras' there and not given here"):
        training.train("tiny", digits, recipe, run, verbose=0)


class BreakOffError(Exception):
    pass


STEPS = 1257 // 64


def broken_off_after(steps, digits, run, monkeypatch, recipe=RECIPE, **settings):
    """Trains for some steps, and breaks off without any notice."""
    record = recorder.Recorder.on_train_batch_end

    def break_off(self, batch, logs=None):
        if self.step == steps:
            raise BreakOffError
        record(self, batch, logs)

    with monkeypatch.context() as patch:
        patch.setattr(recorder.Recorder, "on_train_batch_end", break_off)
        with pytest.raises(BreakOffError):
            training.train("tiny", digits, recipe, run, verbose=0, **settings)


def state(run):
    """What has to come out alike, to the last bit: weights, optimizer, history."""
    model = load_model(run.last_model)
    variables = [*model.weights, *model.optimizer.variables]
    best = load_model(run.best_model)
    values = [np.array(variable).tobytes() for variable in (*variables, *best.weights)]
    return values, (run.folder / "history.csv").read_bytes()


@pytest.mark.parametrize("steps", [0, 3, 12, STEPS, STEPS + 1, 2 * STEPS - 1])
def test_a_run_that_broke_off_goes_on_to_the_same_end(
    finished, digits, tmp_path, monkeypatch, capsys, steps
):
    run = Run(tmp_path / "run")
    broken_off_after(steps, digits, run, monkeypatch, checkpoint_steps=5)
    assert not run.read_details().finished
    training.train("tiny", digits, RECIPE, run, verbose=0)
    kept = max(5 * (steps // 5), STEPS * (steps // STEPS))
    assert (f"going on after step {kept} of {2 * STEPS}" in capsys.readouterr().out) == (kept > 0)
    assert state(run) == state(finished)


@pytest.mark.parametrize("name", ["write_speeds", "write_history"])
def test_a_run_that_broke_off_among_the_first_epochs_files_goes_on(
    finished, digits, tmp_path, monkeypatch, name
):
    def break_off(*_):
        raise BreakOffError

    run = Run(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(Run, name, break_off)
        with pytest.raises(BreakOffError):
            training.train("tiny", digits, RECIPE, run, verbose=0, checkpoint_steps=5)
    training.train("tiny", digits, RECIPE, run, verbose=0)
    assert state(run) == state(finished)


EVERYTHING = dataclasses.replace(
    RECIPE,
    optimizer="lamb",
    learning_rate=0.01,
    weight_decay=0.02,
    accumulate=2,
    clip_norm=1.0,
    ema=0.9,
    loss="binary",
    warmup_epochs=0.5,
    augmentation=Augmentation(PadAndCrop(), flip=True, mixup=MixUp(), cutmix=CutMix()),
    precision="mixed_float16",
)


def test_everything_that_has_a_state_goes_on(tiny_network, digits, tmp_path, monkeypatch):
    """Averages, accumulated gradients, the loss scale, dropped branches."""
    dropping = dataclasses.replace(tiny_network, final_survival=0.5)
    monkeypatch.setitem(architectures.NETWORKS, "tiny", dropping)
    whole, run = Run(tmp_path / "whole"), Run(tmp_path / "run")
    training.train("tiny", digits, EVERYTHING, whole, verbose=0)
    broken_off_after(13, digits, run, monkeypatch, EVERYTHING, checkpoint_steps=3)
    broken_off_after(27, digits, run, monkeypatch, EVERYTHING, checkpoint_steps=4)
    training.train("tiny", digits, EVERYTHING, run, verbose=0, recompute=True)
    (found, found_history), (expected, expected_history) = state(run), state(whole)
    assert found_history == expected_history
    assert found == expected


@pytest.mark.parametrize("damage", [lambda content: content[:5000], lambda content: b""])
def test_a_damaged_checkpoint_costs_only_itself(
    finished, digits, tmp_path, monkeypatch, capsys, damage
):
    run = Run(tmp_path / "run")
    broken_off_after(12, digits, run, monkeypatch, checkpoint_steps=5)
    newest = max(run.checkpoints.iterdir())
    newest.write_bytes(damage(newest.read_bytes()))
    training.train("tiny", digits, RECIPE, run, verbose=0)
    printed = capsys.readouterr().out
    assert f"{newest} is damaged" in printed and "going on after step 5 of" in printed
    assert state(run) == state(finished)


def test_flipped_bits_in_a_checkpoint_are_noticed(digits, tmp_path, monkeypatch, capsys):
    run = Run(tmp_path / "run")
    broken_off_after(12, digits, run, monkeypatch, checkpoint_steps=5)
    newest = max(run.checkpoints.iterdir())
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 0xFF
    newest.write_bytes(content)
    assert Checkpoints(run.checkpoints).read_latest().step == 5
    assert "is damaged" in capsys.readouterr().out


def test_damaged_checkpoints_never_push_out_whole_ones(tmp_path):
    kept = Checkpoints(tmp_path)
    for step in (2, 4):
        kept.write(Checkpoint(step, {"weight": np.float32([step])}, {}))
    for step in (6, 8):
        (tmp_path / f"step-{step:09d}.npz").write_bytes(b"garbage")
    kept = Checkpoints(tmp_path)
    assert kept.read_latest().step == 4
    kept.write(Checkpoint(5, {"weight": np.float32([5])}, {}))
    assert kept.steps() == [4, 5]


def test_a_checkpoint_of_another_model_is_told_in_a_line(digits, tmp_path, monkeypatch):
    run = Run(tmp_path / "run")
    broken_off_after(6, digits, run, monkeypatch, checkpoint_steps=5)
    checkpoint = Checkpoints(run.checkpoints).read_latest()
    renamed = {f"other {name}": array for name, array in checkpoint.arrays.items()}
    Checkpoints(run.checkpoints).write(dataclasses.replace(checkpoint, arrays=renamed))
    with pytest.raises(InputError, match="cannot go on: the checkpoint is another model's"):
        training.train("tiny", digits, RECIPE, run, verbose=0)


def test_a_checkpoint_that_cannot_be_written_costs_only_itself(
    finished, digits, tmp_path, monkeypatch, capsys
):
    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    run = Run(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", fail)
        training.train("tiny", digits, RECIPE, run, verbose=0, checkpoint_steps=5)
    printed = capsys.readouterr().out
    assert "the checkpoint of step 5 cannot be written" in printed and "No space left" in printed
    assert state(run) == state(finished)


def test_a_loss_that_is_not_finite_stops_the_run(digits, tmp_path):
    run = Run(tmp_path / "run")
    recipe = dataclasses.replace(RECIPE, learning_rate=1e30)
    with pytest.raises(TrainingError) as error:
        training.train("tiny", digits, recipe, run, verbose=0, checkpoint_steps=1)
    assert re.match(
        r"the loss is (nan|inf) at step \d+ \(epoch 1\), the learning rate .+; last good "
        r"checkpoint: step \d+, in ",
        str(error.value),
    )
    kept = Checkpoints(run.checkpoints).read_latest()
    assert kept.step > 0


def test_a_source_a_recipe_and_a_run_go_by_their_names(tmp_path, monkeypatch):
    monkeypatch.setitem(recipes.RECIPES, "of-the-tests", dataclasses.replace(RECIPE, epochs=1))
    training.train("tiny", "digits", "of-the-tests", tmp_path / "run", verbose=0)
    assert Run(tmp_path / "run").read_details().finished


def test_what_is_no_source_is_told(tmp_path):
    images = np.zeros((2, 8, 8, 3), "uint8")
    with pytest.raises(InputError, match=r"Received: a tuple; accepted: .*Arrays\(\(images"):
        training.train("tiny", (images, np.arange(2)), RECIPE, tmp_path / "run")


def test_a_resumed_epoch_is_counted_as_before(digits, tmp_path, monkeypatch, capsys):
    recipe = dataclasses.replace(RECIPE, epochs=3)
    run = Run(tmp_path / "run")
    broken_off_after(STEPS + 6, digits, run, monkeypatch, recipe, checkpoint_steps=5)
    capsys.readouterr()
    training.train("tiny", digits, recipe, run, verbose=2)
    told = capsys.readouterr().out
    assert re.findall(r"Epoch \d/\d", told) == ["Epoch 2/3", "Epoch 3/3"]


def test_events_show_one_curve_after_a_resume(digits, tmp_path, monkeypatch):
    run = Run(tmp_path / "run")
    broken_off_after(STEPS + 4, digits, run, monkeypatch)
    # As if killed between the epoch's events and its checkpoint.
    for path in run.checkpoints.iterdir():
        path.unlink()
    training.train("tiny", digits, RECIPE, run, verbose=0)
    for name in ("training", "validation"):
        events = EventAccumulator(str(run.events / name)).Reload()
        assert [event.step for event in events.Tensors("loss")] == [1, 2]
    tags = EventAccumulator(str(run.events / "training")).Reload().Tags()
    assert {"gradient_norm/stem", "gradient_norm/stage2", "seconds_per_step"} <= set(
        tags["tensors"]
    )
    assert tags["graph"]


def test_training_never_looks_at_the_test_images(finished, tmp_path):
    class OtherTest(sources.Digits):
        def load(self, split):
            loaded = super().load(split)
            if split != "test":
                return loaded
            return dataclasses.replace(loaded, images=255 - loaded.images)

    run = Run(tmp_path / "run")
    training.train("tiny", OtherTest(), RECIPE, run, verbose=0)
    assert state(run) == state(finished)
    assert run.read_details().fingerprint != finished.read_details().fingerprint


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_learns_and_scales_its_loss(digits, tmp_path, policy):
    run = Run(tmp_path / policy)
    before = keras.config.dtype_policy().name
    recipe = dataclasses.replace(RECIPE, precision=policy, epochs=1)
    training.train("tiny", digits, recipe, run, verbose=0)
    assert keras.config.dtype_policy().name == before
    model = load_model(run.last_model)
    assert model.get_layer("conv1").compute_dtype == policy.removeprefix("mixed_")
    scales = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scales == (policy == "mixed_float16")
    (row,) = run.read_history()
    assert row["loss"] < 2.6
    assert row["learning_rate"] == pytest.approx(0, abs=1e-6)


def test_a_plain_network_ignores_the_zero_gamma(tiny_network, digits, tmp_path, monkeypatch):
    plain = dataclasses.replace(tiny_network, shortcut=architectures.NO_SHORTCUT)
    monkeypatch.setitem(architectures.NETWORKS, "plain-tiny", plain)
    run = Run(tmp_path / "run")
    recipe = dataclasses.replace(RECIPE, epochs=1)
    training.train("plain-tiny", digits, recipe, run, verbose=0)
    assert run.read_history()[0]["loss"] < 3


def test_evaluation_and_report(run):
    evaluation = evaluate_run(run, verbose=0)
    assert evaluation.images == 360
    assert read_evaluation(run) == evaluation
    examples = sorted(path.name for path in (run.folder / "examples").iterdir())
    assert examples == [f"{digit}.png" for digit in range(10)]
    report.write_report(run)
    page = run.report.read_text()
    assert f"{100 * evaluation.top1_error:.2f} %" in page
    assert page.count('src="data:image/png;base64,') == 5  # curves, classes, matrix, mistakes twice
    assert "://" not in page.replace("http://www.w3.org", "")


def test_report_before_evaluation(run):
    report.write_report(run)
    page = run.report.read_text()
    assert "Not evaluated yet" in page and page.count("data:image/png") == 1


def test_report_of_a_faultless_network(run):
    evaluation = evaluate_run(run, verbose=0)
    faultless = dataclasses.replace(evaluation, top1_error=0.0, mistakes=())
    write_evaluation(run, faultless)
    report.write_report(run)
    assert "None of the 360 test images is classified wrongly" in run.report.read_text()


def test_another_networks_model_in_the_run(run):
    other = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten()], name="other")
    other.save(run.best_model)
    with pytest.raises(InputError, match="is not this run's model. Expected: tiny with output"):
        load_run_model(run)


def test_a_run_without_a_model(run):
    run.best_model.unlink()
    with pytest.raises(InputError, match="the run's model is missing. Received: no .*best.keras"):
        load_run_model(run)
    (run.folder / "history.csv").unlink()
    with pytest.raises(InputError, match="no epoch of this run has ended yet"):
        load_run_model(run)


@pytest.mark.parametrize(
    ("error", "earlier", "is_best"),
    [
        (0.9, [], True),
        (0.010, [0.020], True),
        (0.020, [0.020], True),
        (0.027, [0.020], True),  # the standard error of 2% on 400 images is 0.7%
        (0.028, [0.020], False),
        (0.028, [0.020, 0.025, 0.9], False),
        (0.001, [0.0], False),
        (0.0, [0.0], True),
    ],
)
def test_the_best_epoch_by_the_one_standard_error_rule(error, earlier, is_best):
    assert recorder.validates_best(error, earlier, images=400) == is_best


def test_the_golden_run_is_read_as_when_it_was_written(tmp_path):
    """A run of an earlier version opens, predicts and reports; tests/make_golden.py wrote it."""
    shutil.copytree(Path(__file__).parent / "fixtures" / "golden_run", tmp_path / "run")
    run = Run(tmp_path / "run")
    details, history, written = run.read_details(), run.read_history(), read_evaluation(run)
    assert (details.network, details.data, details.finished) == ("tiny", "digits", True)
    assert details.recipe.learning_rate == 0.1
    assert [row["epoch"] for row in history] == [1, 2, 3, 4, 5, 6]
    measured = evaluate_run(run, verbose=0)
    assert measured.top1_error == written.top1_error < 0.5
    assert measured.loss == pytest.approx(written.loss, abs=1e-5)
    report.write_report(run)
    assert f"{100 * written.top1_error:.2f} %" in run.report.read_text()
