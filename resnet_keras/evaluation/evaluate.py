"""What a network gets right and wrong on labelled images."""

import logging
import math
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias, Union

import keras
import numpy as np
from sklearn.metrics import confusion_matrix

from resnet_keras.architectures import find, model_name
from resnet_keras.data import pipelines, progress, sources
from resnet_keras.data.arrays import Arrays
from resnet_keras.data.checks import CheckedSource, check, naming_lost_images
from resnet_keras.data.epochs import WHOLE, Share
from resnet_keras.data.images import resize
from resnet_keras.data.splits import ArraySplit, Source, Split
from resnet_keras.errors import InputError
from resnet_keras.evaluation.checks import check_measurable
from resnet_keras.evaluation.protocols import MULTI_SCALE, ONE_VIEW, TEN_CROP, Protocol
from resnet_keras.evaluation.results import ClassError as ClassError
from resnet_keras.evaluation.results import ErrorRates as ErrorRates
from resnet_keras.evaluation.results import Evaluation as Evaluation
from resnet_keras.evaluation.results import Mistake as Mistake
from resnet_keras.evaluation.results import read_evaluation as read_evaluation
from resnet_keras.evaluation.results import read_evaluations as read_evaluations
from resnet_keras.evaluation.results import wilson_interval as wilson_interval
from resnet_keras.evaluation.results import with_names as with_names
from resnet_keras.evaluation.results import write_evaluation as write_evaluation
from resnet_keras.evaluation.views import multi_scale, ten_crop
from resnet_keras.networks.loading import load_model
from resnet_keras.networks.models import is_of_logits, view_of
from resnet_keras.runs.run import Run
from resnet_keras.view import View

if TYPE_CHECKING:
    import tensorflow as tf

# TensorFlow counts the first predictions of all models as one function's, and warns of the fifth
# that it is traced too often. Each model is traced once.
logging.getLogger("tensorflow").addFilter(
    lambda record: "make_predict_function" not in record.getMessage()
)

BATCH_SIZE = 32

Data: TypeAlias = Union[tuple[np.ndarray, np.ndarray], "tf.data.Dataset", keras.utils.PyDataset]
"""What `Model.fit`, `evaluate` and `predict` take: arrays, or batches of the backend's pipeline."""


def evaluate(model: keras.Model, split: Split, verbose: int | str = "auto") -> Evaluation:
    """Runs a classifier over a split, one view an image, see `models.view_of`.

    Args:
        model: from images of a fixed size to probabilities (batch, classes).
        split: images of any size.
        verbose: 0 shows no progress.
    """
    return score(single_view(model, split, verbose), split.labels)


def single_view(model: keras.Model, split: Split, verbose: int | str = "auto") -> np.ndarray:
    """Probabilities (n, classes) float32 of one view an image; arguments are `evaluate`'s."""
    data = evaluation_data(split, view_of(model))
    images = data[0] if isinstance(data, tuple) else data
    if verbose == 0:
        return _as_probabilities(model, model.predict(images, verbose=0))
    with progress.shown("testing", len(split.labels)) as done:
        count = keras.callbacks.LambdaCallback(
            on_predict_batch_end=lambda batch, logs: done(BATCH_SIZE)
        )
        return _as_probabilities(model, model.predict(images, verbose=0, callbacks=[count]))


def evaluation_data(
    split: Split, view: View, multiple: int | None = None, share: Share = WHOLE
) -> Data:
    """What Keras takes to measure on: arrays (images, labels) of what is in memory, else batches.

    Args:
        split: images of any size.
        view: what is shown of them.
        multiple: if given, every batch holds a multiple of so many images.
        share: which part of every such batch is yielded.
    """
    arrays = _in_memory(split, view) if isinstance(split, ArraySplit) else None
    if multiple:
        return pipelines.pipeline().shared_evaluation_batches(
            split if arrays is None else arrays,
            view=view if arrays is None else replace(view, centre=1.0),
            batch_size=math.ceil(BATCH_SIZE / multiple) * multiple,
            share=share,
        )
    if arrays is not None:
        return arrays.images, arrays.labels
    return pipelines.pipeline().evaluation_batches(split, view=view, batch_size=BATCH_SIZE)


def _in_memory(split: ArraySplit, view: View) -> ArraySplit:
    if split.images.shape[1:] == (view.height, view.width, view.channels) and view.centre == 1:
        return split
    return ArraySplit(np.stack([view.show(image) for image in split.images]), split.labels)


def shown(split: Split, view: View, at_most: int) -> ArraySplit:
    """Some images as a network is measured on them, spread over the split.

    Args:
        split: images of any size.
        view: what is shown of them.
        at_most: how many.

    Returns:
        images (n, height, width, channels) uint8.
    """
    count = min(at_most, len(split))
    chosen = np.linspace(0, len(split) - 1, count).round().astype(int)
    return as_measured(split.take(chosen), view)


def as_measured(split: Split, view: View) -> ArraySplit:
    """A few images as a network is measured on them; arguments and result are those of `shown`."""
    if isinstance(split, ArraySplit):
        return _in_memory(split, view)
    batches = pipelines.pipeline().evaluation_batches(split, view=view, batch_size=BATCH_SIZE)
    return ArraySplit(np.concatenate([np.asarray(batch[0]) for batch in batches]), split.labels)


def score(probabilities: np.ndarray, labels: np.ndarray) -> Evaluation:
    """Scores probabilities (n, classes) against labels (n,)."""
    count, classes = probabilities.shape
    of_label = probabilities[np.arange(count), labels]
    predicted = probabilities.argmax(axis=1)
    # A tie counts against the network: a class as probable as the label stands before it.
    rivals = (probabilities >= of_label[:, None]).sum(axis=1) - 1
    matrix = confusion_matrix(labels, predicted, labels=range(classes))
    wrong = np.flatnonzero(predicted != labels)
    surest_first = wrong[np.argsort(-probabilities[wrong, predicted[wrong]], kind="stable")]
    return Evaluation(
        images=count,
        loss=float(-np.log(np.maximum(of_label, 1e-7)).mean()),
        top1_error=len(wrong) / count,
        top5_error=float((rivals >= 5).mean()),
        confusion_matrix=tuple(map(tuple, matrix.tolist())),
        mistakes=tuple(
            Mistake(
                int(i), int(labels[i]), int(predicted[i]), float(probabilities[i, predicted[i]])
            )
            for i in surest_first
        ),
    )


def classify(
    model: keras.Model, image: np.ndarray, class_names: tuple[str, ...], top: int = 5
) -> list[tuple[str, float]]:
    """The most probable classes of one image, with their probabilities, the likeliest first.

    Args:
        model: a classifier of images of a fixed size.
        image: (height, width, 3) uint8 of any size, of which the model is shown its view.
    """
    probabilities = probabilities_of(model, view_of(model).show(image)[None])[0]
    order = np.argsort(-probabilities, kind="stable")[:top]
    return [(class_names[index], float(probabilities[index])) for index in order]


def probabilities_of(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """What a classifier says of images, as probabilities: of logits their softmax.

    Args:
        model: that ends in softmax, sigmoid or logits.
        images: (n, height, width, channels) as the model takes them.

    Returns:
        (n, classes) float32.
    """
    return _as_probabilities(model, keras.ops.convert_to_numpy(model(images, training=False)))


def _as_probabilities(model: keras.Model, scores: np.ndarray) -> np.ndarray:
    if is_of_logits(model):
        return keras.ops.convert_to_numpy(keras.ops.softmax(scores))
    return scores


def evaluate_run(
    run: Run,
    verbose: int | str = "auto",
    source: Source | None = None,
    protocol: Protocol = ONE_VIEW,
) -> Evaluation:
    """Measures a run's best model on the test images, and keeps the result in the run folder.

    An example image of every class is kept beside it, as examples/<class>.png.

    Args:
        run: the run folder.
        verbose: 0 shows no progress of a single view.
        source: of the test images; None finds it by the name that the run tells.
        protocol: how to test.

    Raises:
        InputError: there is no such run, it has no model yet, its folder is damaged, its data
            cannot be found, or has changed, the network cannot be tested so, or the folder cannot
            be written.
    """
    details = check_measurable(run, protocol)
    run.check_writable()
    test = data_of(run, source).load("test")
    evaluation = score(probabilities(run, test, protocol, verbose), test.labels)
    evaluation = with_names(evaluation, test, details.class_names)
    for label, class_name in enumerate(details.class_names):
        for index in np.flatnonzero(test.labels == label)[:1]:
            run.write_example(class_name, resize(test.image(index), details.image_size))
    # Last: where it is, nothing has to be measured again.
    write_evaluation(run, evaluation, protocol.at(details.image_size))
    return evaluation


def probabilities(
    run: Run, split: Split, protocol: Protocol, verbose: int | str = "auto"
) -> np.ndarray:
    """What a run's best model says of images, (n, classes) float32.

    Args:
        run: the run folder.
        split: images of the classes that it was trained on.
        protocol: how to show them.
        verbose: see `evaluate_run`.

    Raises:
        InputError: as `evaluate_run`.
    """
    details = check_measurable(run, protocol)
    model = load_run_model(run)
    with naming_lost_images(split):
        if protocol.name == TEN_CROP:
            return ten_crop(model, split)
        if protocol.name == MULTI_SCALE:
            architecture = find(details.network, details.shortcut)
            return multi_scale(model, architecture, split, protocol.scales_for(details.image_size))
        return single_view(model, split, verbose)


def data_of(run: Run, source: Source | None = None) -> CheckedSource:
    """The images that a run was trained on, those it skipped left out.

    Args:
        run: the run folder.
        source: of the images; None finds it by the name that the run tells.

    Raises:
        InputError: there is no such run, its data cannot be found or used, or has changed.
    """
    details = run.read_details()
    if source is None and details.data.startswith(Arrays.prefix):
        raise InputError(
            "the run was trained on arrays of a Python session, which have no path",
            received=run,
            accepted="in Python, evaluation.evaluate_run(run, source=Arrays(…)) with the arrays",
        )
    data = check(source or sources.find(details.data), details.skip_bad_images)
    if details.fingerprint != data.fingerprint:
        raise InputError(
            f"images were added, removed or changed in {details.data} since {run} was trained",
            received=f"data with the fingerprint {data.fingerprint}",
            accepted=f"{details.fingerprint}, or train again (--start-over moves the run aside)",
        )
    return data


def load_run_model(run: Run) -> keras.Model:
    """Loads the best model of a run.

    Raises:
        InputError: there is no such run, no epoch has ended yet, or its model is damaged or another
            network's.
    """
    details = check_measurable(run, ONE_VIEW)
    model = load_model(run.best_model)
    expected = (model_name(details.network), (None, len(details.class_names)))
    found = (model.name, model.output_shape)
    if expected != found:
        raise InputError(
            f"{run.best_model} is not this run's model",
            received=f"{found[0]} with output {found[1]}",
            accepted=f"{expected[0]} with output {expected[1]}",
        )
    head = model.layers[-1]
    if getattr(head, "centre", None) is None:  # of an earlier version, or another family
        head.centre = details.recipe.centre
    return model
