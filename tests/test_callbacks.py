"""Callbacks of a training: the caller's, and what those of the package promise."""

import dataclasses

import keras
import kit
import numpy as np
import pytest
from kit import RECIPE, TINY, refusal

from resnet_keras import fine_tune
from resnet_keras.data.arrays import Arrays
from resnet_keras.data.checks import check
from resnet_keras.errors import DivergedError
from resnet_keras.networks.loading import load_model
from resnet_keras.runs.checkpoints import Checkpoints
from resnet_keras.runs.run import Run
from resnet_keras.training import plan
from resnet_keras.training.precision import Machine
from resnet_keras.training.train import train

pytestmark = pytest.mark.usefixtures("tiny_network")

STEPS = 4  # an epoch of `few`
SHORT = dataclasses.replace(RECIPE, epochs=3, batch_size=16)


@pytest.fixture(scope="module")
def few():
    """Some digits: 64 images to train on."""
    images, labels = kit.digits(8)
    return Arrays((images[:64], labels[:64]), validation=(images[64:96], labels[64:96]))


def start(source, run, recipe=SHORT, **options):
    options = {"verbose": 0, "log_diagnostics": False, **options}
    train("tiny", source, recipe, run, **options)
    return run if isinstance(run, Run) else Run(run)


class Diary(keras.callbacks.Callback):
    """Writes down what it is called for."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def on_train_begin(self, logs=None):
        self.lines.append("begin")

    def on_train_end(self, logs=None):
        self.lines.append("end")

    def on_epoch_end(self, epoch, logs=None):
        assert logs and {"loss", "accuracy", "val_loss", "val_accuracy"} <= set(logs)
        self.lines.append(f"epoch {epoch}")

    def on_train_batch_end(self, batch, logs=None):
        assert logs and all(type(value) is float for value in logs.values())
        self.lines.append((self.params["epochs"], batch))


BATCHES = [(3, batch) for batch in range(STEPS)]


def test_callbacks_and_progress_see_one_training_of_several_fits(few, tmp_path, capsys):
    diary = Diary()
    with kit.interrupted_after(STEPS + 2):
        start(few, tmp_path / "run", callbacks=[diary], checkpoint_steps=1)
    assert diary.lines == ["begin", *BATCHES, "epoch 0", *BATCHES[:2]]
    diary = Diary()
    run = start(few, tmp_path / "run", callbacks=[diary], verbose=2)
    rest = [*BATCHES[2:], "epoch 1", *BATCHES, "epoch 2"]
    assert diary.lines == ["begin", *rest, "end"]
    second, third = capsys.readouterr().out.split("epoch 2/3: ")[1].split("epoch 3/3: ")
    for shown, row in zip((second, third), run.read_history()[1:], strict=True):
        assert f"training loss {row['loss']:.4f}, " in shown and "images/s" in shown
        assert f"validation loss {row['validation_loss']:.4f}, " in shown
    assert " left" in second and " left" not in third.splitlines()[0]


@pytest.mark.slow
def test_what_a_callback_changes_is_in_the_best_model_and_the_last(few, tmp_path):
    class Clear(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            bias = self.model.layers[-1].bias
            bias.assign(keras.ops.full(bias.shape, epoch + 7.0))

    run, recipe = Run(tmp_path / "run"), dataclasses.replace(SHORT, epochs=1)
    options = {"verbose": 0, "log_diagnostics": False, "callbacks": [Clear()]}
    best = fine_tune("tiny", few, kit.finished_run().last_model, run, recipe, **options)
    for model in (best, load_model(run.last_model)):
        np.testing.assert_array_equal(model.layers[-1].bias, np.full(10, 7, "float32"))


def test_a_callback_ends_the_training_with_the_running_epoch(few, tmp_path, capsys):
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = batch == 1

    run = start(few, tmp_path / "run", callbacks=[Stop()])
    assert run.read_details().finished and len(run.read_history()) == 1
    assert int(load_model(run.last_model).optimizer.iterations) == STEPS
    start(few, run)
    assert "is finished" in capsys.readouterr().out


@pytest.mark.slow
def test_keras_stops_early_as_in_a_fit_of_its_own(few, tmp_path):
    patience = keras.callbacks.EarlyStopping("val_loss", patience=0, min_delta=100)
    assert len(start(few, tmp_path / "run", callbacks=[patience]).read_history()) == 2


def test_what_is_no_callback_is_refused(few, tmp_path):
    error = refusal(start, few, tmp_path / "run", callbacks=[print])
    assert "builtin_function" in error.received
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("every", "last"),
    [
        (3, 4),
        pytest.param(1, 5, marks=pytest.mark.slow),
        pytest.param(2, 4, marks=pytest.mark.slow),
    ],
)
def test_no_checkpoint_is_written_of_a_loss_that_is_not_finite(every, last, few, tmp_path):
    class Spoil(keras.callbacks.Callback):
        """Makes the loss of the sixth step, and of all after it, infinite."""

        def on_train_batch_begin(self, batch, logs=None):
            if self.model.optimizer.iterations == 5:
                kernel = self.model.layers[-1].kernel
                kernel.assign(keras.ops.full(kernel.shape, np.nan))

    with pytest.raises(DivergedError, match="step 6 "):
        start(few, tmp_path / "run", callbacks=[Spoil()], checkpoint_steps=every)
    kept = Checkpoints(Run(tmp_path / "run").checkpoints).read_latest()
    assert kept.step == last
    assert all(np.isfinite(array).all() for array in kept.arrays.values())


# --- The plan: a training before anything is on disk ---


def test_a_plan_is_made_without_a_folder(few, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = plan.make_plan(plan.Request("tiny", SHORT), check(few), Machine("tensorflow"))
    assert found.details.image_size == 8 and len(found.details.class_names) == 10
    assert found.precision.policy == "float32"
    automatic = dataclasses.replace(SHORT, precision="auto")
    bfloat16 = Machine("tensorflow", cpu_features=frozenset({"avx512_bf16"}))
    policy = plan.make_plan(plan.Request("tiny", automatic), check(few), bfloat16).precision.policy
    assert policy == "mixed_bfloat16"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "received"),
    [
        ({"network": "resnet21"}, "resnet21"),
        ({"recipe": dataclasses.replace(SHORT, head_epochs=1)}, "no weights"),
        ({"builder": TINY, "weights": "imagenet"}, "weights and a builder"),
        ({"shortcut": "D"}, "D"),
    ],
)
def test_a_request_whose_parts_do_not_fit_is_refused(changes, received):
    request = {"network": "tiny", "recipe": SHORT, **changes}
    assert received in refusal(plan.Request, **request).received
