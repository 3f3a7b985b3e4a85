import json
import sys
from collections import Counter

import numpy as np
import pytest
from conftest import TINY

import resnet_keras
from export import to_core_ml
from export.card import ModelCard
from resnet_keras.errors import InputError

# coremltools leaves a temporary folder to its finalizer.
pytestmark = pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")

CARD = ModelCard("tiny", "Pets.", ("cat", "dog", "poule d'eau", "½", *"456789"))
NO_IMAGES = np.empty((0, 32, 32, 3), "uint8")


@pytest.fixture(scope="module")
def specification(tmp_path_factory):
    """What the written package says; none but a Mac can run it."""
    models = pytest.importorskip("coremltools").models
    path = tmp_path_factory.mktemp("core_ml") / "tiny.mlpackage"
    to_core_ml.convert(resnet_keras.build(TINY), CARD, NO_IMAGES, path)
    return models.MLModel(str(path), skip_model_load=True).get_spec()


def operations(specification):
    main = specification.mlProgram.functions["main"]
    return main.block_specializations[main.opset].operations


def test_package_takes_an_image_and_gives_what_classifiers_give(specification):
    (pixels,) = specification.description.input
    image = pixels.type.imageType

    assert pixels.name == "pixels"
    assert (image.height, image.width) == (32, 32)
    assert image.colorSpace == image.ColorSpace.Value("RGB")
    assert {
        output.name: output.type.WhichOneof("Type") for output in specification.description.output
    } == {"classLabel": "stringType", "classLabel_probs": "dictionaryType"}


def test_package_has_the_class_names_in_their_order(specification):
    (classify,) = [step for step in operations(specification) if step.type == "classify"]
    (names,) = classify.inputs["classes"].arguments
    metadata = specification.description.metadata

    assert CARD.class_names == tuple(
        name.immediateValue.tensor.strings.values[0]
        for name in names.value.immediateValue.list.values
    )
    assert tuple(json.loads(metadata.userDefined["class_names"])) == CARD.class_names
    assert metadata.userDefined["name"] == "tiny"
    assert metadata.shortDescription == "Pets."


def test_no_normalisation_is_left_but_the_images(specification):
    counts = Counter(step.type for step in operations(specification))

    # coremltools writes the pixels' scale and offset as a batch_norm.
    assert counts["batch_norm"] == 1
    assert counts["conv"] == 1 + 3 * 2
    assert counts["add"] == 3
    assert counts["relu"] == 1 + 3 * 2
    assert counts["mul"] == 0


@pytest.mark.skipif(sys.platform == "darwin", reason="a Mac predicts")
def test_prediction_elsewhere_than_on_a_mac_is_refused(tmp_path):
    with pytest.raises(InputError, match="accepted: darwin"):
        to_core_ml.predictor(tmp_path / "tiny.mlpackage")
