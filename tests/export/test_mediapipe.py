"""What an app does: MediaPipe Tasks loads the file, takes an image and names what it shows."""

import mediapipe
import numpy as np
import pytest
from digits_classifier import CLASS_NAMES, digits, held_out_digits, trained
from mediapipe.tasks.python.core.base_options import BaseOptions
from mediapipe.tasks.python.vision.image_classifier import ImageClassifier, ImageClassifierOptions

from export import to_tflite
from export.card import ModelCard

CARD = ModelCard("tiny", "Handwritten digits, 0 to 9.", CLASS_NAMES)


def classify(path, images):
    """For every image the classes' names and scores, the best first."""
    options = ImageClassifierOptions(base_options=BaseOptions(model_asset_path=str(path)))
    with ImageClassifier.create_from_options(options) as classifier:
        for pixels in images:
            image = mediapipe.Image(mediapipe.ImageFormat.SRGB, np.ascontiguousarray(pixels))
            (classification,) = classifier.classify(image).classifications
            yield [(found.category_name, found.score) for found in classification.categories]


@pytest.mark.parametrize(
    ("convert", "agreement"),
    [
        (to_tflite.convert_float32, 1.0),
        (to_tflite.convert_float16, 0.99),
        (to_tflite.convert_dynamic_int8, 0.97),
        (to_tflite.convert_int8, 0.97),
    ],
)
def test_image_classifier_names_the_classes_that_keras_finds(convert, agreement, tmp_path):
    path = tmp_path / "tiny.tflite"
    images = held_out_digits()
    expected = np.array(CLASS_NAMES)[trained().predict(images, verbose=0).argmax(1)]

    convert(trained(), CARD, digits()[0][:200], path)

    found = [categories[0][0] for categories in classify(path, images)]
    assert np.mean(np.array(found) == expected) >= agreement


def test_scores_are_keras_probabilities_in_the_order_of_the_class_names(tmp_path):
    path = tmp_path / "tiny.tflite"
    images = held_out_digits()[:10]

    to_tflite.convert_float32(trained(), CARD, digits()[0], path)

    expected = trained().predict(images, verbose=0)
    for categories, probabilities in zip(classify(path, images), expected, strict=True):
        scores = dict(categories)
        assert len(scores) == len(CLASS_NAMES)
        np.testing.assert_allclose([scores[name] for name in CLASS_NAMES], probabilities, atol=1e-5)
