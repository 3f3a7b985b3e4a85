"""What a network gets right and wrong on labelled images."""

import logging
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import NormalDist
from typing import Any

import keras
import numpy as np

from resnet_keras.architectures import find, model_name
from resnet_keras.data import pipelines, sources
from resnet_keras.data.arrays import Arrays
from resnet_keras.data.checks import CheckedSource, check
from resnet_keras.data.images import resize
from resnet_keras.data.splits import ArraySplit, Source, Split
from resnet_keras.distribution import ALONE, Placement
from resnet_keras.errors import InputError
from resnet_keras.loading import load_model
from resnet_keras.models import is_of_logits, view_of
from resnet_keras.preflight import check_measurable
from resnet_keras.protocols import (
    MULTI_SCALE,
    NAMES,
    ONE_VIEW,
    SINGLE,
    TEN_CROP,
    Protocol,
)
from resnet_keras.runs import EVALUATION_ACCEPTED, Run
from resnet_keras.structured import convert
from resnet_keras.view import View
from resnet_keras.views import multi_scale, ten_crop

# TensorFlow counts the first predictions of all models as one function's, and warns of the fifth
# that it is traced too often. Each model is traced once.
logging.getLogger("tensorflow").addFilter(
    lambda record: "make_predict_function" not in record.getMessage()
)

BATCH_SIZE = 32
CONFIDENCE = 0.95
FOR_OTHER_READERS = ("top1_interval", "top5_interval", "class_errors")  # follow from the rest

Interval = tuple[float, float]


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
class ClassError:
    """The top-1 error on the images of one class.

    Attributes:
        images: how many there are of it.
        wrong: how many of them were taken for another class.
    """

    images: int
    wrong: int

    @property
    def error(self) -> float | None:
        """A fraction 0..1; None of a class without images."""
        return self.wrong / self.images if self.images else None

    @property
    def interval(self) -> Interval:
        """The 95% interval of the error; of a class without images it could be anything."""
        return wilson_interval(self.wrong, self.images)


@dataclass(frozen=True)
class ErrorRates:
    """Errors as fractions of the images, 0..1, and their 95% intervals, see `wilson_interval`.

    Attributes:
        images: how many.
        top1_error, top5_error: as the papers count them; top-5 is 0 with five classes or fewer.
    """

    images: int
    top1_error: float
    top5_error: float

    def __post_init__(self) -> None:
        if self.images < 1 or not (0 <= self.top1_error <= 1 and 0 <= self.top5_error <= 1):
            raise ValueError(
                "errors are fractions of one image or more. Received: "
                f"{self.top1_error} and {self.top5_error} of {self.images}"
            )

    @property
    def top1_interval(self) -> Interval:
        return wilson_interval(round(self.top1_error * self.images), self.images)

    @property
    def top5_interval(self) -> Interval:
        return wilson_interval(round(self.top5_error * self.images), self.images)


@dataclass(frozen=True)
class Evaluation(ErrorRates):
    """Error rates, and what they consist of.

    Attributes:
        loss: mean cross-entropy, in nats.
        confusion_matrix: counts, rows are the true classes, columns the predicted ones.
        mistakes: all of them, those that the network was surest of first.
    """

    loss: float
    confusion_matrix: tuple[tuple[int, ...], ...]
    mistakes: tuple[Mistake, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if {len(row) for row in self.confusion_matrix} != {self.classes}:
            raise ValueError("the confusion matrix is not square")
        counts = [count for row in self.confusion_matrix for count in row]
        if min(counts) < 0 or sum(counts) != self.images:
            raise ValueError(f"the confusion matrix is not of {self.images} images")
        if not all(self._is_possible(mistake) for mistake in self.mistakes):
            raise ValueError("a mistake is of no image or class")

    def _is_possible(self, mistake: Mistake) -> bool:
        classes = range(self.classes)
        return (
            mistake.image in range(self.images)
            and mistake.label in classes
            and mistake.predicted in classes
            and 0 <= mistake.probability <= 1
        )

    @property
    def classes(self) -> int:
        """How many there are."""
        return len(self.confusion_matrix)

    @property
    def class_errors(self) -> tuple[ClassError, ...]:
        """The top-1 errors class by class, in the order of the matrix."""
        return tuple(
            ClassError(sum(row), sum(row) - row[label])
            for label, row in enumerate(self.confusion_matrix)
        )


def wilson_interval(errors: int, images: int) -> Interval:
    """Where the error on endlessly many images of the kind lies, at 95% confidence.

    The score interval of Wilson 1927 ("Probable inference, the law of succession, and statistical
    inference"), which holds for few images and for none wrong, too.

    Args:
        errors: of so many images.
        images: how many were drawn, independently of each other.

    Returns:
        Lowest and highest, fractions 0..1.
    """
    if images == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    share, spread = errors / images, z**2 / images
    centre = share + spread / 2
    half_width = math.sqrt(spread * (share * (1 - share) + spread / 4))
    low, high = (centre - half_width) / (1 + spread), (centre + half_width) / (1 + spread)
    # Where none or all are wrong, these are 0 and 1, but for rounding.
    return low if errors else 0.0, high if errors < images else 1.0


def write_evaluation(run: Run, evaluation: Evaluation, protocol: Protocol = ONE_VIEW) -> None:
    """Keeps an evaluation in the run folder, in place of an earlier one by the same protocol."""
    run.write_evaluation(protocol.name, to_content(evaluation, protocol))


def read_evaluation(run: Run, protocol: str = SINGLE) -> Evaluation | None:
    """The evaluation in the run folder, or None if the run was not evaluated so yet.

    Args:
        run: the run folder.
        protocol: its name.

    Raises:
        InputError: the file is damaged.
    """
    found = _read(run, protocol)
    return found[1] if found else None


def read_evaluations(run: Run) -> list[tuple[Protocol, Evaluation]]:
    """All evaluations in the run folder, with the scales of those that have some.

    Raises:
        InputError: a file is damaged.
    """
    return [found for name in NAMES if (found := _read(run, name))]


def _read(run: Run, name: str) -> tuple[Protocol, Evaluation] | None:
    content = run.read_evaluation(name)
    if content is None:
        return None
    place = run.evaluation_file(name)
    protocol, evaluation = from_content(content, place)
    if protocol.name != name:
        raise InputError(
            f"{place.name} is damaged",
            received=f"{place} (protocol: {protocol.name})",
            accepted=f"results of {name} (evaluate writes them again)",
        )
    return protocol, evaluation


def to_content(evaluation: Evaluation, protocol: Protocol) -> dict[str, Any]:
    """An evaluation as JSON keeps it; intervals and classes are there for other readers."""
    return {
        "protocol": protocol.name,
        "scales": protocol.scales,
        **asdict(evaluation),
        "top1_interval": evaluation.top1_interval,
        "top5_interval": evaluation.top5_interval,
        "class_errors": [one.error for one in evaluation.class_errors],
    }


def from_content(content: dict[str, Any], path: Path) -> tuple[Protocol, Evaluation]:
    """The inverse of `to_content`; of what earlier versions wrote, too.

    Args:
        content: as it was read.
        path: the file, for the message.

    Raises:
        InputError: the content is damaged.
    """
    told = {name: value for name, value in content.items() if name not in FOR_OTHER_READERS}
    shown = {"name": told.pop("protocol", SINGLE), "scales": told.pop("scales", None)}
    protocol = convert(shown, Protocol, path, EVALUATION_ACCEPTED)
    return protocol, convert(told, Evaluation, path, EVALUATION_ACCEPTED)


def evaluate(model: keras.Model, split: Split, verbose: int | str = "auto") -> Evaluation:
    """Runs a classifier over a split, one view an image, see `models.view_of`.

    Args:
        model: from images of a fixed size to probabilities (batch, classes).
        split: images of any size.
        verbose: of the progress bar, as in Keras.
    """
    return score(single_view(model, split, verbose), split.labels)


def single_view(model: keras.Model, split: Split, verbose: int | str = "auto") -> np.ndarray:
    """Probabilities (n, classes) float32 of one view an image; arguments are `evaluate`'s."""
    data = evaluation_data(split, view_of(model))
    images = data[0] if isinstance(data, tuple) else data
    return _as_probabilities(model, model.predict(images, verbose=verbose))


def evaluation_data(split: Split, view: View, placement: Placement = ALONE) -> Any:
    """What Keras takes to measure on: arrays (images, labels) of what is in memory, else batches.

    Args:
        split: images of any size.
        view: what is shown of them.
        placement: where Keras is to measure.
    """
    arrays = _in_memory(split, view) if isinstance(split, ArraySplit) else None
    if placement.needs_equal_parts:
        return pipelines.of_backend().shared_evaluation_batches(
            split if arrays is None else arrays,
            view=view if arrays is None else replace(view, centre=1.0),
            batch_size=math.ceil(BATCH_SIZE / placement.devices) * placement.devices,
            share=placement.share,
        )
    if arrays is not None:
        return arrays.images, arrays.labels
    return pipelines.of_backend().evaluation_batches(split, view=view, batch_size=BATCH_SIZE)


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
    batches = pipelines.of_backend().evaluation_batches(split, view=view, batch_size=BATCH_SIZE)
    return ArraySplit(np.concatenate([np.asarray(batch[0]) for batch in batches]), split.labels)


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
        verbose: of the progress bar of a single view, as in Keras; the other protocols show one
            on a terminal.
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
    if details.fingerprint not in (None, data.fingerprint):
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
