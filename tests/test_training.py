"""Training through the real entry point: one tiny network, a few steps."""

import dataclasses
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

from resnet_keras import architectures, report, training
from resnet_keras.data import sources
from resnet_keras.errors import InputError
from resnet_keras.evaluation import (
    evaluate_run,
    load_run_model,
    read_evaluation,
    write_evaluation,
)
from resnet_keras.models import load_model
from resnet_keras.recipes import Recipe
from resnet_keras.runs import Run, best_row

pytestmark = pytest.mark.usefixtures("tiny_network")

RECIPE = Recipe(
    epochs=2,
    batch_size=64,
    learning_rate=0.1,
    zero_init_last_gamma=True,
    shift=1 / 8,
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
    assert all(row["images_per_second"] > 0 for row in history)
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
        ("tiny", "B", {}, "shortcut is None there and 'B' here"),
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


class BreakOffError(Exception):
    pass


def interrupted_after(epochs, digits, run, monkeypatch):
    """Trains until `epochs` epochs are recorded, and breaks off in the next one."""
    record = training.Recorder.on_train_batch_end

    def break_off(self, batch, logs=None):
        if len(self.history) == epochs and batch == 3:
            raise BreakOffError
        record(self, batch, logs)

    with monkeypatch.context() as patch:
        patch.setattr(training.Recorder, "on_train_batch_end", break_off)
        with pytest.raises(BreakOffError):
            training.train("tiny", digits, RECIPE, run, verbose=0)


@pytest.mark.parametrize("epochs", [0, 1])
def test_an_interrupted_run_goes_on_to_the_same_end(
    finished, digits, tmp_path, monkeypatch, capsys, epochs
):
    run = Run(tmp_path / "run")
    interrupted_after(epochs, digits, run, monkeypatch)
    assert not run.read_details().finished
    training.train("tiny", digits, RECIPE, run, verbose=0)
    assert ("going on after epoch 1" in capsys.readouterr().out) == (epochs == 1)
    whole, resumed = (
        [weight.numpy() for weight in load_model(one.last_model).weights] for one in (finished, run)
    )
    for expected, found in zip(whole, resumed, strict=True):
        np.testing.assert_array_equal(found, expected)
    for expected, found in zip(finished.read_history(), run.read_history(), strict=True):
        assert found["loss"] == pytest.approx(expected["loss"], rel=1e-6)


def test_a_truncated_checkpoint_is_told(digits, tmp_path, monkeypatch):
    run = Run(tmp_path / "run")
    interrupted_after(1, digits, run, monkeypatch)
    run.last_model.write_bytes(run.last_model.read_bytes()[:5000])
    with pytest.raises(InputError, match="truncated") as error:
        training.train("tiny", digits, RECIPE, run, verbose=0)
    assert str(run.last_model) in str(error.value)


def test_training_never_sees_the_test_images(digits, tmp_path):
    class WithoutTest(sources.Digits):
        def load(self, split):
            assert split != "test"
            return super().load(split)

    training.train(
        "tiny",
        WithoutTest(),
        dataclasses.replace(RECIPE, epochs=1),
        Run(tmp_path / "run"),
        verbose=0,
    )


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
    assert page.count('src="data:image/png;base64,') == 3
    assert "http" not in page.replace("http://www.w3.org", "")


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
    assert training.validates_best(error, earlier, images=400) == is_best


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
