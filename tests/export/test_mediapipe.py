"""What an app does: MediaPipe Tasks loads the file, takes an image and names what it shows."""

import mediapipe
import numpy as np
import pytest
from exports import converted, expected
from kit import DIGIT_NAMES, held_out_digits
from mediapipe.tasks.python.core.base_options import BaseOptions
from mediapipe.tasks.python.vision.image_classifier import ImageClassifier, ImageClassifierOptions


def classify(path, images):
    """For every image the classes' names and scores, the best first."""
    options = ImageClassifierOptions(base_options=BaseOptions(model_asset_path=str(path)))
    with ImageClassifier.create_from_options(options) as classifier:
        for pixels in images:
            image = mediapipe.Image(mediapipe.ImageFormat.SRGB, np.ascontiguousarray(pixels))
            (classification,) = classifier.classify(image).classifications
            yield [(found.category_name, found.score) for found in classification.categories]


@pytest.mark.parametrize(
    ("name", "agreement"),
    [
        ("tflite-float32", 1.0),
        ("tflite-float16", 0.99),
        ("tflite-dynamic-int8", 0.97),
        ("tflite-int8", 0.97),
    ],
)
def test_image_classifier_names_the_classes_that_keras_finds(name, agreement):
    wanted = np.array(DIGIT_NAMES)[expected().argmax(1)]

    found = [categories[0][0] for categories in classify(converted(name), held_out_digits())]

    assert np.mean(np.array(found) == wanted) >= agreement


def test_scores_are_keras_probabilities_in_the_order_of_the_class_names():
    classified = classify(converted("tflite-float32"), held_out_digits()[:10])

    for categories, probabilities in zip(classified, expected()[:10], strict=True):
        scores = dict(categories)
        assert len(scores) == len(DIGIT_NAMES)
        np.testing.assert_allclose([scores[name] for name in DIGIT_NAMES], probabilities, atol=1e-5)
