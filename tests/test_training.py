"""Training through the real entry point: one tiny network, a few steps."""

import contextlib
import dataclasses
import io
import re
import shutil
from functools import partial
from pathlib import Path

import keras
import kit
import numpy as np
import pytest
from kit import RECIPE, Killed, contents, refusal
from sample_images import folder_with
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_training import DROPPING, EVERYTHING

from resnet_keras import architectures
from resnet_keras.data import sources
from resnet_keras.errors import DivergedError
from resnet_keras.evaluation import report
from resnet_keras.evaluation.evaluate import (
    evaluate_run,
    load_run_model,
    read_evaluation,
    write_evaluation,
)
from resnet_keras.networks.loading import load_model
from resnet_keras.runs.checkpoints import Checkpoint, Checkpoints
from resnet_keras.runs.run import Run, best_row
from resnet_keras.training import train as training
from resnet_keras.training.history import validates_best

pytestmark = pytest.mark.usefixtures("tiny_network")

# Without pictures and gradient norms, which the finished run has.
train = partial(training.train, verbose=0, log_diagnostics=False)
ONE_EPOCH = dataclasses.replace(RECIPE, epochs=1)
STEPS = 1257 // 64  # an epoch


@pytest.fixture(scope="module")
def finished():
    """A finished run, not to be changed."""
    return kit.finished_run()


def state(run):
    """What has to come out alike, to the last bit: weights, optimizer, history."""
    model = load_model(run.last_model)
    variables = [*model.weights, *model.optimizer.variables]
    best = load_model(run.best_model)
    values = [np.array(variable).tobytes() for variable in (*variables, *best.weights)]
    return values, (run.folder / "history.csv").read_bytes()


def test_a_run_leaves_its_folder(finished):
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
    split = sources.find("digits").load("validation")
    right = kit.answers(load_model(finished.best_model), kit.of_arrays(split).images).argmax(1)
    assert np.mean(right != split.labels) == pytest.approx(best["validation_top1_error"])
    last = load_model(finished.last_model)
    assert int(last.optimizer.iterations) == 2 * STEPS


def test_learning_rate_in_the_history_is_the_schedules(finished):
    first, second = (row["learning_rate"] for row in finished.read_history())
    assert first == pytest.approx(0.05)
    assert second == pytest.approx(0, abs=1e-6)


def test_tensorboard_has_curves_graph_gradients_and_pictures(finished):
    logs = EventAccumulator(str(finished.events / "training")).Reload()
    assert [event.step for event in logs.Tensors("gradient_norm/stage2")] == [1, 2]
    assert {"loss", "gradient_norm/stem", "seconds_per_step"} <= set(logs.Tags()["tensors"])
    assert logs.Tags()["graph"]
    assert [picture.step for picture in logs.Images("augmented_inputs")] == [0]
    logs = EventAccumulator(str(finished.events / "validation")).Reload()
    for tag in ("confusion_matrix", "worst_mistakes"):
        (picture,) = logs.Images(tag)
        assert picture.step == RECIPE.epochs and picture.width > 400


def test_a_finished_run_is_left_alone(finished, capsys):
    before = contents(finished.folder)
    train("tiny", "digits", "tests", finished)
    assert "is finished: 2 epochs" in capsys.readouterr().out
    assert contents(finished.folder) == before


@pytest.mark.parametrize(
    ("network", "shortcut", "changes", "differing"),
    [
        ("resnet20", None, {}, {"network": ("'tiny'", "'resnet20'")}),
        ("tiny", "B", {}, {"shortcut": ("", "'B'")}),
        ("tiny", None, {"epochs": 9}, {"epochs": ("2", "9")}),
        ("tiny", None, {"seed": 1, "l2": 0.0}, {"l2": ("0.0001", "0.0"), "seed": ("0", "1")}),
    ],
)
def test_another_run_in_the_folder_is_refused(finished, network, shortcut, changes, differing):
    before = contents(finished.folder)
    recipe = dataclasses.replace(RECIPE, **changes)
    message = str(refusal(train, network, "digits", recipe, finished, shortcut))
    for name, (there, here) in differing.items():
        assert re.search(rf"{name}\b.*{re.escape(there)}.*{re.escape(here)}", message), message
    assert contents(finished.folder) == before


def test_training_starts_from_weights_and_keeps_which(finished, tmp_path):
    run = Run(tmp_path / "run")
    recipe = dataclasses.replace(ONE_EPOCH, learning_rate=1e-6)
    train("tiny", "digits", recipe, run, weights=finished.last_model)
    (row,) = run.read_history()
    assert row["loss"] == pytest.approx(finished.read_history()[-1]["loss"], rel=0.05)
    assert run.read_details().weights == str(finished.last_model)
    assert "last.keras" in str(refusal(train, "tiny", "digits", recipe, run))


# --- A run that is interrupted again and again ---


class OtherTest(sources.Digits):
    """The digits with other test images, which training must not look at."""

    def load(self, split):
        loaded = super().load(split)
        if split != "test":
            return loaded
        return dataclasses.replace(loaded, images=255 - loaded.images)


@dataclasses.dataclass(frozen=True)
class Story:
    """A run, and what was printed by each attempt at it."""

    run: Run
    printed: list[str]


@pytest.fixture(scope="module")
def eventful(tmp_path_factory, tiny_network):
    """A run of the finished one's recipe, with all that can happen to it on the way."""
    run = Run(tmp_path_factory.mktemp("runs") / "eventful")
    printed = []

    def attempt(verbose=0):
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            try:
                training.train(
                    "tiny", OtherTest(), RECIPE, run, checkpoint_steps=5, verbose=verbose
                )
            finally:
                printed.append(output.getvalue())

    with (
        _failing(np, "savez", OSError(28, "No space left on device"), times=1),
        kit.interrupted_after(16),
    ):
        attempt()
    newest = max(run.checkpoints.iterdir())
    newest.write_bytes(newest.read_bytes()[:5000])
    with _failing(Run, "write_history", Killed), pytest.raises(Killed):
        attempt()
    with _failing(Checkpoints, "write", Killed), pytest.raises(Killed):
        attempt()
    with kit.interrupted_after(STEPS + 8):
        attempt()
    with _failing(Run, "write_details", Killed), pytest.raises(Killed):
        attempt(verbose=2)
    assert not run.read_details().finished
    attempt()
    return Story(run, printed)


@contextlib.contextmanager
def _failing(owner, name, error, times=1000):
    """Inside, the first calls of a function raise an error."""
    function, calls = getattr(owner, name), []

    def fail(*arguments, **options):
        calls.append(name)
        if len(calls) <= times:
            raise error
        return function(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, fail)
        yield


def test_an_interrupted_run_goes_on_to_the_same_end(finished, eventful):
    assert state(eventful.run) == state(finished)


def test_it_goes_on_after_the_last_whole_checkpoint(eventful):
    went_on = [
        int(found[1]) if (found := re.search(r"after step (\d+) of 38", text)) else 0
        for text in eventful.printed
    ]
    # Killed after step 16, of which 15's checkpoint was damaged; then among the files of the first
    # epoch, at its checkpoint, after step 27, and before run.json says that all is done.
    assert went_on == [0, 10, 15, 15, 25, 38]
    assert "step-000000015.npz" in eventful.printed[1]  # is named as damaged


def test_a_checkpoint_that_cannot_be_written_costs_only_itself(eventful):
    assert "step 5" in eventful.printed[0] and "No space left" in eventful.printed[0]


def test_a_resumed_epoch_is_counted_as_before(eventful):
    assert re.findall(r"epoch \d/\d", eventful.printed[4]) == ["epoch 2/2"]


def test_tensorboard_shows_one_curve_after_interruptions(eventful):
    for name in ("training", "validation"):
        logs = EventAccumulator(str(eventful.run.events / name)).Reload()
        assert [event.step for event in logs.Tensors("loss")] == [1, 2]
        tags = {"training": "augmented_inputs", "validation": "worst_mistakes"}
        assert len(logs.Images(tags[name])) == 1


def test_training_never_looks_at_the_test_images(finished, eventful):
    # Their ends are alike, see above, though their test images are not.
    found, other = (run.read_details().fingerprint for run in (finished, eventful.run))
    assert found != other


@pytest.mark.slow
def test_everything_that_has_a_state_goes_on(tmp_path, monkeypatch):
    """Averages, accumulated gradients, the loss scale, dropped branches."""
    monkeypatch.setitem(architectures.NETWORKS, "tiny", DROPPING)
    recipe = dataclasses.replace(EVERYTHING, epochs=2)
    whole, run = Run(tmp_path / "whole"), Run(tmp_path / "run")
    train("tiny", "digits", recipe, whole)
    with kit.interrupted_after(27):
        train("tiny", "digits", recipe, run, checkpoint_steps=5)
    train("tiny", "digits", recipe, run, recompute=True)
    (found, found_history), (expected, expected_history) = state(run), state(whole)
    assert found_history == expected_history
    assert found == expected


# --- Checkpoints ---


def test_damaged_checkpoints_are_passed_over_and_never_push_out_whole_ones(tmp_path, capsys):
    kept = Checkpoints(tmp_path)
    for step in (2, 4):
        kept.write(Checkpoint(step, {"weight": np.full(1000, step, "float32")}, {}))
    content = bytearray((tmp_path / "step-000000004.npz").read_bytes())
    content[len(content) // 2] ^= 0xFF  # a flipped bit
    for step, damaged in ((6, b"garbage"), (8, b""), (10, content), (12, content[:900])):
        (tmp_path / f"step-{step:09d}.npz").write_bytes(damaged)
    kept = Checkpoints(tmp_path)
    assert kept.read_latest().step == 4
    assert capsys.readouterr().out.count("is damaged") == 4
    kept.write(Checkpoint(5, {"weight": np.array([5], "float32")}, {}))
    assert kept.steps() == [4, 5]


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    run = Run(tmp_path / "run")
    with kit.interrupted_after(6):
        train("tiny", "digits", RECIPE, run, checkpoint_steps=5)
    checkpoint = kit.known(Checkpoints(run.checkpoints).read_latest())
    renamed = {f"other {name}": array for name, array in checkpoint.arrays.items()}
    Checkpoints(run.checkpoints).write(dataclasses.replace(checkpoint, arrays=renamed))
    assert str(run) in str(refusal(train, "tiny", "digits", RECIPE, run))


# --- What training refuses, or stops at ---


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    run = Run(tmp_path / "run")
    recipe = dataclasses.replace(RECIPE, learning_rate=1e30)
    with pytest.raises(DivergedError, match="step") as error:
        train("tiny", "digits", recipe, run, checkpoint_steps=1)
    kept = Checkpoints(run.checkpoints).read_latest()
    assert kept.step > 0
    assert f"step {kept.step}" in str(error.value) and "\n" not in str(error.value)


def test_a_source_is_no_tuple_of_arrays(tmp_path):
    images = np.zeros((2, 8, 8, 3), "uint8")
    error = refusal(train, "tiny", (images, np.arange(2)), RECIPE, tmp_path / "run")
    assert "tuple" in error.received and "Arrays((images" in error.accepted


# --- Precision and initialisation ---


def scaled_and_learnt(run, policy):
    """Whether the loss is scaled; the run has learnt, and left the process's policy alone."""
    assert keras.config.dtype_policy().name == "float32"
    model = load_model(run.last_model)
    assert model.get_layer("conv1").compute_dtype == policy.removeprefix("mixed_")
    (row,) = run.read_history()
    assert row["loss"] < 2.6
    assert row["learning_rate"] == pytest.approx(0, abs=1e-6)
    return isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)


@pytest.mark.slow
def test_mixed_float16_learns_and_scales_its_loss(tmp_path):
    recipe = dataclasses.replace(ONE_EPOCH, precision="mixed_float16")
    train("tiny", "digits", recipe, Run(tmp_path / "run"))
    assert scaled_and_learnt(Run(tmp_path / "run"), "mixed_float16")


@pytest.mark.slow
def test_a_plain_network_learns_in_bfloat16_and_ignores_the_zero_gamma(
    tiny_network, tmp_path, monkeypatch
):
    plain = dataclasses.replace(tiny_network, shortcut=architectures.NO_SHORTCUT)
    monkeypatch.setitem(architectures.NETWORKS, "plain-tiny", plain)
    recipe = dataclasses.replace(ONE_EPOCH, precision="mixed_bfloat16")
    assert recipe.zero_init_last_gamma
    train("plain-tiny", "digits", recipe, Run(tmp_path / "run"))
    assert not scaled_and_learnt(Run(tmp_path / "run"), "mixed_bfloat16")


# --- Evaluation and report of a run ---


def test_evaluation_and_report(finished):
    evaluation = read_evaluation(finished)
    assert evaluation.images == 360
    examples = sorted(path.name for path in (finished.folder / "examples").iterdir())
    assert examples == [f"{digit}.png" for digit in range(10)]
    page = finished.report.read_text()
    assert f"<dd>{1 - evaluation.top1_error:.2%}</dd>" in page
    assert page.count('src="data:image/svg+xml;base64,') == 3  # loss, accuracy, learning rate
    assert "://" not in page.replace("http://www.w3.org", "")


def test_report_before_evaluation(run):
    for path in (run.folder / "evaluation.json", run.report):
        path.unlink()
    report.write_report(run)
    page = run.report.read_text()
    assert "Not evaluated yet" in page and "Confusion matrix" not in page


def test_report_of_a_faultless_network(run):
    faultless = dataclasses.replace(kit.known(read_evaluation(run)), top1_error=0.0, mistakes=())
    write_evaluation(run, faultless)
    report.write_report(run)
    page = run.report.read_text()
    assert "<dd>100.00%</dd>" in page and "all 360 test images correctly" in page


def test_another_networks_model_in_the_run(run):
    other = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten()], name="other")
    other.save(run.best_model)
    message = str(refusal(load_run_model, run))
    assert "tiny" in message and "other" in message


def test_a_run_without_a_model(run):
    run.best_model.unlink()
    assert "best.keras" in str(refusal(load_run_model, run))
    (run.folder / "history.csv").unlink()
    assert str(run) in refusal(load_run_model, run).received


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
    assert validates_best(error, earlier, images=400) == is_best


def test_the_golden_run_is_read_as_when_it_was_written(tmp_path):
    """A run of an earlier version opens, predicts and reports; tests/make_golden.py wrote it."""
    shutil.copytree(Path(__file__).parent / "fixtures" / "golden_run", tmp_path / "run")
    run = Run(tmp_path / "run")
    details, history, written = run.read_details(), run.read_history(), read_evaluation(run)
    assert (details.network, details.data, details.finished) == ("tiny", "digits", True)
    assert details.recipe.learning_rate == 0.1
    assert [row["epoch"] for row in history] == [1, 2, 3, 4, 5, 6]
    report.write_report(run)
    measured = evaluate_run(run, verbose=0)
    assert measured.top1_error == written.top1_error < 0.5
    assert measured.loss == pytest.approx(written.loss, abs=1e-5)
    assert details.machine is None and {one.file for one in written.mistakes} == {None}
    assert f"<dd>{1 - written.top1_error:.2%}</dd>" in run.report.read_text()


@pytest.mark.slow
def test_an_image_lost_during_training_is_named_and_the_run_goes_on(tmp_path):
    folder_with(tmp_path / "data", {}, others=20)
    data, run = str(tmp_path / "data"), Run(tmp_path / "run")
    recipe = dataclasses.replace(RECIPE, batch_size=4)
    lost = Path(kit.of_files(sources.find(data).load("train")).paths[0])
    content = lost.read_bytes()
    # Before the first step: a fast pipeline has soon read all images of both epochs.
    lose = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: lost.unlink())
    received = refusal(train, "tiny", data, recipe, run, callbacks=[lose]).received
    assert str(lost) in received and "No such file" in received
    lost.write_bytes(content)
    train("tiny", data, recipe, run)
    assert run.read_details().finished and len(run.read_history()) == recipe.epochs
