import json
import sys
from collections import Counter

import pytest
from exports import whole_export
from kit import DIGIT_NAMES, DIGITS_SIDE, digits_classifier, refusal

from resnet_keras.export.formats import FORMATS

# coremltools leaves a temporary folder to its finalizer. It takes seconds to import.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning"),
]


@pytest.fixture(scope="module")
def models():
    return pytest.importorskip("coremltools").models


@pytest.fixture(scope="module")
def specification(models):
    """What the written package says; none but a Mac can run it."""
    path = whole_export() / FORMATS["core-ml"].file
    return models.MLModel(str(path), skip_model_load=True).get_spec()


def operations(specification):
    main = specification.mlProgram.functions["main"]
    return main.block_specializations[main.opset].operations


def test_package_takes_an_image_and_gives_what_classifiers_give(specification):
    (pixels,) = specification.description.input
    image = pixels.type.imageType

    assert pixels.name == "pixels"
    assert (image.height, image.width) == (DIGITS_SIDE, DIGITS_SIDE)
    assert image.colorSpace == image.ColorSpace.Value("RGB")
    assert {
        output.name: output.type.WhichOneof("Type") for output in specification.description.output
    } == {"classLabel": "stringType", "classLabel_probs": "dictionaryType"}


def test_package_has_the_class_names_in_their_order(specification):
    (classify,) = [step for step in operations(specification) if step.type == "classify"]
    (names,) = classify.inputs["classes"].arguments
    metadata = specification.description.metadata

    assert (
        tuple(
            name.immediateValue.tensor.strings.values[0]
            for name in names.value.immediateValue.list.values
        )
        == DIGIT_NAMES
    )
    assert tuple(json.loads(metadata.userDefined["class_names"])) == DIGIT_NAMES
    assert metadata.userDefined["name"] == digits_classifier().name
    assert metadata.shortDescription == "digits of the tests"


def test_no_normalisation_is_left_but_the_images(specification):
    counts = Counter(step.type for step in operations(specification))

    # coremltools writes the pixels' scale and offset as a batch_norm.
    assert counts["batch_norm"] == 1
    assert counts["conv"] == 1 + 3 * 2
    assert counts["add"] == 3
    assert counts["relu"] == 1 + 3 * 2
    assert counts["mul"] == 0


@pytest.mark.skipif(sys.platform == "darwin", reason="a Mac predicts")
@pytest.mark.usefixtures("models")
def test_prediction_elsewhere_than_on_a_mac_is_refused(tmp_path):
    error = refusal(FORMATS["core-ml"].predictor, tmp_path / "tiny.mlpackage")
    assert (error.received, error.accepted) == (sys.platform, "darwin")
