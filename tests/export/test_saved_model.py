import kit
import numpy as np
import pytest
import sample_images
import tensorflow as tf
from exports import converted, expected, folded_digits
from kit import DIGIT_NAMES, DIGITS_SIDE, draw_images, held_out_digits
from PIL import Image
from tensorflow.python.tools import saved_model_cli

from resnet_keras.data.images import decode
from resnet_keras.export import to_saved_model
from resnet_keras.networks.models import view_of

SIZES = {  # width, height
    "larger": (90, 60),
    "smaller": (11, 14),
    "fitting": (DIGITS_SIDE, DIGITS_SIDE),
    "very wide": (200, 9),
    "a pixel wide": (1, 40),
    "one pixel": (1, 1),
}


@pytest.fixture(scope="module")
def folder():
    return converted("saved-model")


@pytest.fixture(scope="module")
def loaded(folder):
    return tf.saved_model.load(folder)


def picture(size, mode="RGB", seed=0):
    width, height = size
    pixels = draw_images(1, (height, width), seed)[0]
    return Image.fromarray(pixels).convert(mode)


def png(size, mode="RGB"):
    return sample_images.saved(picture(size, mode), "PNG")


def jpeg(size, mode="RGB"):
    return sample_images.saved(picture(size, mode), "JPEG", quality=90)


def serve_bytes(loaded, *images):
    return loaded.signatures["serve_bytes"](images=tf.constant(images))["scores"].numpy()


@pytest.mark.parametrize("batch", [1, 5])
def test_pixels_are_answered_as_keras_does_in_batches_of_any_size(loaded, batch):
    images = held_out_digits()[:batch]
    answers = loaded.signatures["serving_default"](pixels=tf.constant(images, tf.float32))
    assert answers["scores"].dtype == tf.float32
    np.testing.assert_allclose(answers["scores"], expected()[:batch], atol=1e-4)
    names = [[name.decode() for name in row] for row in answers["labels"].numpy()]
    assert names == [list(DIGIT_NAMES)] * batch


def test_bytes_give_the_same_dictionary(loaded):
    answers = loaded.signatures["serve_bytes"](images=tf.constant([png((20, 30))] * 3))
    assert set(answers) == {"scores", "labels"}
    assert answers["scores"].shape == answers["labels"].shape == (3, 10)
    assert answers["labels"].numpy()[2, 9].decode() == "neuf à ½"


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_bytes_of_any_size_are_shown_as_evaluation_shows_them(loaded, mode):
    """test_view.py has other views, and files of every kind."""
    files = [save(size, mode) for save in (png, jpeg) for size in SIZES.values()]
    view = view_of(kit.digits_classifier())
    images = np.stack([view.show(decode(file)) for file in files])
    # Pillow interpolates in integers, so pixels differ by one here and there. Without antialiasing
    # the probabilities would differ by 0.08 and more.
    shown = kit.answers(kit.digits_classifier(), images)
    np.testing.assert_allclose(serve_bytes(loaded, *files), shown, atol=0.03)


@pytest.mark.parametrize("suffix", ["GIF", "BMP"])
def test_bytes_may_be_of_other_formats(loaded, suffix):
    file = sample_images.saved(picture((30, 20)), suffix)
    as_png = sample_images.saved(Image.fromarray(decode(file)), "PNG")
    scores = serve_bytes(loaded, file, as_png)
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-6)


def test_of_an_animation_the_first_picture_is_shown(loaded):
    first = sample_images.saved(sample_images.photo("P"), "GIF")
    scores = serve_bytes(loaded, first, sample_images.animation())
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-6)


@pytest.mark.parametrize(
    "content",
    [b"", b"no image", jpeg((40, 30))[:60], png((40, 30))[:60]],
    ids=["empty", "text", "half a JPEG", "half a PNG"],
)
def test_bad_bytes_are_an_invalid_argument(loaded, content):
    with pytest.raises(tf.errors.InvalidArgumentError):
        serve_bytes(loaded, png((20, 20)), content)


def test_labels_are_an_asset(folder):
    written = (folder / "assets" / "labels.txt").read_text(encoding="utf-8")
    assert tuple(written.splitlines()) == DIGIT_NAMES
    assert list(folder.parent.iterdir()) == [folder]


def test_weights_are_stored_once(folder):
    stored = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    weights = 4 * folded_digits().count_params()
    assert weights < stored < 1.5 * weights  # the graph that decodes files takes 0.1 MB


@pytest.mark.parametrize("count", [0, 1, 70])
def test_predictor_takes_any_number_of_images(folder, count):
    images = held_out_digits()[:count]
    scores = to_saved_model.predictor(folder)(images)
    assert scores.shape == (count, 10) and scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected()[:count], atol=1e-4)


def test_signatures_have_names_shapes_and_types(loaded):
    signatures = loaded.signatures
    assert set(signatures) == {"serving_default", "serve_bytes"}
    for name, inputs in {
        "serving_default": {"pixels": ((None, DIGITS_SIDE, DIGITS_SIDE, 3), tf.float32)},
        "serve_bytes": {"images": ((None,), tf.string)},
    }.items():
        _, arguments = signatures[name].structured_input_signature
        assert described(arguments) == inputs
        assert described(signatures[name].structured_outputs) == {
            "scores": ((None, 10), tf.float32),
            "labels": ((None, 10), tf.string),
        }


def described(tensors):
    return {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}


def test_tensorflows_own_program_runs_it_on_arrays(folder, tmp_path):
    images = held_out_digits()[:3].astype(np.float32)
    saved_model_cli.run_saved_model_with_feed_dict(
        str(folder), "serve", "serving_default", {"pixels": images}, str(tmp_path), False
    )
    np.testing.assert_allclose(np.load(tmp_path / "scores.npy"), expected()[:3], atol=1e-4)
