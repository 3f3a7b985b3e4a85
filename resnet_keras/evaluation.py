"""What a network gets right and wrong on labelled images."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np

from resnet_keras.data import pipelines, sources
from resnet_keras.data.arrays import Arrays
from resnet_keras.data.checks import CheckedSource, check
from resnet_keras.data.images import resize
from resnet_keras.data.splits import ArraySplit, Source, Split, resized
from resnet_keras.distribution import ALONE, Placement
from resnet_keras.errors import InputError
from resnet_keras.models import load_model, model_name
from resnet_keras.runs import Run

BATCH_SIZE = 32


@dataclass(frozen=True)
class Mistake:
    """One wrongly classified image.

    Attributes:
        image: its index in the split.
        label, predicted: indices of its class and of the class with the highest probability.
        probability: that the network gave to the class it predicted.
    """

    image: int
    label: int
    predicted: int
    probability: float


@dataclass(frozen=True)
class Evaluation:
    """Errors as fractions of the images, 0..1.

    Attributes:
        images: how many.
        loss: mean cross-entropy, in nats.
        top1_error, top5_error: as the papers count them; top-5 is 0 with five classes or fewer.
        confusion_matrix: counts, rows are the true classes, columns the predicted ones.
        mistakes: all of them, those that the network was surest of first.
    """

    images: int
    loss: float
    top1_error: float
    top5_error: float
    confusion_matrix: tuple[tuple[int, ...], ...]
    mistakes: tuple[Mistake, ...]


def write_evaluation(run: Run, evaluation: Evaluation) -> None:
    """Keeps an evaluation in the run folder."""
    run.write_evaluation(asdict(evaluation))


def read_evaluation(run: Run) -> Evaluation | None:
    """The evaluation in the run folder, or None if the run was not evaluated yet.

    Raises:
        InputError: the file is damaged.
    """
    content = run.read_evaluation()
    if content is None:
        return None
    try:
        mistakes = tuple(Mistake(**mistake) for mistake in content["mistakes"])
        matrix = tuple(tuple(row) for row in content["confusion_matrix"])
        return Evaluation(**{**content, "mistakes": mistakes, "confusion_matrix": matrix})
    except (KeyError, TypeError) as error:
        raise InputError(f"the evaluation in {run} is damaged ({error})") from error


def evaluate(
    model: keras.Model, split: Split, centre: float = 1.0, verbose: int | str = "auto"
) -> Evaluation:
    """Runs a classifier over a split, one view an image.

    Args:
        model: from square images of a fixed size to probabilities (batch, classes).
        split: images of any size.
        centre: which part of them is shown, see `Recipe`.
        verbose: of the progress bar, as in Keras.
    """
    data = evaluation_data(split, model.input_shape[1], centre)
    images = data[0] if isinstance(data, tuple) else data
    return score(model.predict(images, verbose=verbose), split.labels)


def evaluation_data(
    split: Split, image_size: int, centre: float, placement: Placement = ALONE
) -> Any:
    """What Keras takes to measure on: arrays (images, labels) of what is in memory, else batches.

    Args:
        split: images of any size.
        image_size: to give them, in pixels.
        centre: which part of them is shown, see `Recipe`.
        placement: where Keras is to measure.
    """
    arrays = resized(split, image_size) if isinstance(split, ArraySplit) and centre == 1 else None
    if placement.needs_equal_parts:
        return pipelines.of_backend().shared_evaluation_batches(
            arrays or split,
            image_size=image_size,
            batch_size=math.ceil(BATCH_SIZE / placement.devices) * placement.devices,
            centre=centre,
            share=placement.share,
        )
    if arrays:
        return arrays.images, arrays.labels
    return pipelines.of_backend().evaluation_batches(
        split, image_size=image_size, batch_size=BATCH_SIZE, centre=centre
    )


def shown(split: Split, image_size: int, centre: float, at_most: int) -> ArraySplit:
    """Some images as a network is measured on them, spread over the split.

    Args:
        split: images of any size.
        image_size: to give them, in pixels.
        centre: which part of them is shown, see `Recipe`.
        at_most: how many.

    Returns:
        images (n, image_size, image_size, 3) uint8.
    """
    count = min(at_most, len(split))
    some = split.take(np.linspace(0, len(split) - 1, count).round().astype(int))
    if isinstance(some, ArraySplit) and centre == 1:
        return resized(some, image_size)
    batches = pipelines.of_backend().evaluation_batches(
        some, image_size=image_size, batch_size=BATCH_SIZE, centre=centre
    )
    return ArraySplit(np.concatenate([np.asarray(batch[0]) for batch in batches]), some.labels)


def score(probabilities: np.ndarray, labels: np.ndarray) -> Evaluation:
    """Scores probabilities (n, classes) against labels (n,)."""
    count, classes = probabilities.shape
    of_label = probabilities[np.arange(count), labels]
    predicted = probabilities.argmax(axis=1)
    # A tie counts against the network: a class as probable as the label stands before it.
    rivals = (probabilities >= of_label[:, None]).sum(axis=1) - 1
    matrix = np.zeros((classes, classes), int)
    np.add.at(matrix, (labels, predicted), 1)
    wrong = np.flatnonzero(predicted != labels)
    surest_first = wrong[np.argsort(-probabilities[wrong, predicted[wrong]], kind="stable")]
    return Evaluation(
        images=count,
        loss=float(-np.log(np.maximum(of_label, 1e-7)).mean()),
        top1_error=len(wrong) / count,
        top5_error=float((rivals >= 5).mean()),
        confusion_matrix=tuple(tuple(int(cell) for cell in row) for row in matrix),
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
        model: a classifier with a fixed, square input size.
        image: (height, width, 3) uint8 of any size; its centre square is resized to the model's.
    """
    size = model.input_shape[1]
    probabilities = model.predict(resize(image, size)[None], verbose=0)[0]
    order = np.argsort(-probabilities, kind="stable")[:top]
    return [(class_names[index], float(probabilities[index])) for index in order]


def evaluate_run(run: Run, verbose: int | str = "auto", source: Source | None = None) -> Evaluation:
    """Measures a run's best model on the test images, and keeps the result in the run folder.

    An example image of every class is kept beside it, as examples/<class>.png.

    Args:
        run: the run folder.
        verbose: of the progress bar, as in Keras.
        source: of the test images; None finds it by the name that the run tells.

    Raises:
        InputError: there is no such run, it has no model yet, its folder is damaged, or its data
            cannot be found, or has changed.
    """
    details = run.read_details()
    data = data_of(run, source)
    model = load_run_model(run)
    test = data.load("test")
    evaluation = evaluate(model, test, details.recipe.centre, verbose)
    for label, class_name in enumerate(details.class_names):
        for index in np.flatnonzero(test.labels == label)[:1]:
            run.write_example(class_name, resize(test.image(index), details.image_size))
    write_evaluation(run, evaluation)  # last: where it is, nothing has to be measured again
    return evaluation


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
            f"{run} was trained on arrays of a Python session, which have no name that tells where "
            "they are. Evaluate it there: evaluation.evaluate_run(run, source=Arrays(…))"
        )
    data = check(source or sources.find(details.data), details.skip_bad_images)
    if details.fingerprint not in (None, data.fingerprint):
        raise InputError(
            f"{run} was trained on other data, or it has changed since. "
            f"Received: {data.name}, {data.fingerprint}; "
            f"accepted: {details.data}, {details.fingerprint}"
        )
    return data


def load_run_model(run: Run) -> keras.Model:
    """Loads the best model of a run.

    Raises:
        InputError: there is no such run, no epoch has ended yet, or its model is damaged or another
            network's.
    """
    details = run.read_details()
    if not run.best_model.exists():
        raise InputError(f"no epoch of this run has ended yet. Received: {run}")
    model = load_model(run.best_model)
    expected = (model_name(details.network), (None, len(details.class_names)))
    found = (model.name, model.output_shape)
    if expected != found:
        raise InputError(
            f"{run.best_model} is not this run's model. "
            f"Expected: {expected[0]} with output {expected[1]}; found: {found[0]}, {found[1]}"
        )
    return model
