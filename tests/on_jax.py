"""What test_jax.py has to see on the JAX backend, in one process.

`KERAS_BACKEND=jax python on_jax.py FOLDER`: each function of FACTS states one, and
FOLDER/facts.json tells why it fails, if it does.
"""

import json
import sys
import traceback
from dataclasses import replace
from pathlib import Path

import keras
import kit
import numpy as np

from resnet_keras import Arrays, Run, backbone, build, fine_tune, load_model, recompute, train
from resnet_keras.architectures import RESNET20
from resnet_keras.data import pipelines, sources
from resnet_keras.data.augmentation import (
    Augmentation,
    CutMix,
    MixUp,
    PCAColor,
    RandAugment,
    RandomErasing,
)
from resnet_keras.data.images import resize_whole
from resnet_keras.data.splits import ArraySplit
from resnet_keras.evaluation.grad_cam import grad_cam
from resnet_keras.evaluation.views import five_crops, multi_scale, ten_crop
from resnet_keras.networks.models import Classifier

RECIPE = replace(kit.RECIPE, epochs=1)


def logits_of_tensorflows_models(folder):
    """Writes what the models in FOLDER/models answer, for comparison."""
    for path in sorted((folder / "models").glob("*.keras")):
        images = np.load(path.with_suffix(".npy"))
        np.save(path.with_suffix(".logits.npy"), kit.answers(load_model(path), images))


def heat_of_tensorflows_model(folder):
    """Writes where Grad-CAM sees classes, for comparison."""
    model, images = load_model(folder / "heat.keras"), np.load(folder / "images.npy")
    np.save(folder / "heat.npy", grad_cam(model, images, [0, 1, 2], "C2"))


def recomputation_learns_the_same(folder):
    images = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3)).astype("uint8")
    states = []
    for wrap in (lambda model: model, recompute):
        keras.utils.set_random_seed(0)
        network = replace(kit.TINY, blocks=(2, 2, 2), final_survival=0.5)
        model = wrap(build(network, (16, 16, 3), Classifier(4)))
        model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
        for _ in range(2):
            model.train_on_batch(images, np.arange(4))
        states.append([np.asarray(variable) for variable in model.variables])
    for one, other in zip(*states, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


def a_dilated_backbone_learns(folder):
    trunk = backbone("resnet20", ("C3", "C4"), output_stride=2, freeze_bn=True)
    pixels = keras.Input((None, None, 3))
    detector = keras.Model(pixels, keras.layers.Conv2D(2, 1)(trunk(pixels)["C4"]))
    detector.compile(keras.optimizers.SGD(1e-3), "mse")
    before = {layer.name: layer.get_weights() for layer in trunk.layers if layer.weights}
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 24, 3)).astype("float32")
    detector.train_on_batch(images, np.ones((2, 8, 12, 2), "float32"))
    for name, values in before.items():
        for one, other in zip(values, trunk.get_layer(name).get_weights(), strict=True):
            assert np.array_equal(one, other) == name.startswith("bn"), name


def fine_tuning_freezes_to_the_bit(folder):
    digits = sources.find("digits")
    train("tiny", digits, RECIPE, folder / "learnt", verbose=0)
    images = kit.of_arrays(digits.load("train"))
    kept = np.flatnonzero(images.labels < 2)
    others = Arrays((images.images[kept], images.labels[kept]), class_names=("no", "yes"))
    recipe = replace(
        RECIPE, epochs=2, head_epochs=1, freeze="stage2", freeze_bn=True, stage_decay=0.5
    )
    fine_tune("tiny", others, folder / "learnt", folder / "tuned", recipe, verbose=0)
    before, after = (
        load_model(folder / "learnt/best.keras"),
        load_model(folder / "tuned/last.keras"),
    )
    for layer in after.layers[:-1]:
        same = before.get_layer(layer.name).get_weights()
        for one, other in zip(layer.get_weights(), same, strict=True):
            frozen = layer.name.startswith(("bn", "conv1", "res2"))
            assert np.array_equal(one, other) == frozen, layer.name
    assert after.layers[-1].class_names == ("no", "yes")


def crops_and_scales_are_averages(folder):
    architecture = replace(RESNET20, blocks=(1, 1, 1))
    model = build(architecture)
    images = np.random.default_rng(0).integers(0, 256, (3, 40, 56, 3), np.uint8)
    split = ArraySplit(images, np.zeros(3, int))

    def average(model, views):
        views = np.stack([*views, *(view[:, ::-1] for view in views)])
        return model.predict_on_batch(views).mean(0)

    wholes = [resize_whole(image, 37) for image in images]
    expected = [
        average(model, [whole[y : y + 32, x : x + 32] for y, x in five_crops(whole.shape, 32)])
        for whole in wholes
    ]
    np.testing.assert_allclose(ten_crop(model, split), expected, atol=1e-5)
    of_its_size = build(architecture, wholes[0].shape)
    of_its_size.set_weights(model.get_weights())
    expected = [average(of_its_size, [whole]) for whole in wholes]
    found = multi_scale(model, architecture, split, [37])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def an_interrupted_run_goes_on_to_the_same_end(folder):
    augmentation = Augmentation(
        flip=True,
        randaugment=RandAugment(1),
        color=PCAColor(),
        erasing=RandomErasing(),
        mixup=MixUp(),
        cutmix=CutMix(),
        label_smoothing=0.1,
    )
    recipe = replace(kit.RECIPE, ema=0.9, accumulate=2, augmentation=augmentation)

    def attempt(name):
        run = Run(folder / name)
        train("tiny", "digits", recipe, run, verbose=0, log_diagnostics=False, checkpoint_steps=5)
        model = load_model(run.last_model)
        values = [np.array(variable) for variable in (*model.weights, *model.optimizer.variables)]
        return values, (run.folder / "history.csv").read_bytes()

    whole = attempt("whole")
    for step in (7, 30):
        with kit.interrupted_after(step):
            attempt("resumed")
    resumed = attempt("resumed")
    assert resumed[1] == whole[1]
    for one, other in zip(resumed[0], whole[0], strict=True):
        np.testing.assert_array_equal(one, other)


def tensorflow_makes_the_batches_and_takes_no_gpu(folder):
    import tensorflow as tf

    assert pipelines.pipeline().__name__.endswith("tf_pipeline")
    assert tf.config.get_visible_devices("GPU") == []


FACTS = (
    logits_of_tensorflows_models,
    heat_of_tensorflows_model,
    recomputation_learns_the_same,
    a_dilated_backbone_learns,
    fine_tuning_freezes_to_the_bit,
    crops_and_scales_are_averages,
    an_interrupted_run_goes_on_to_the_same_end,
    tensorflow_makes_the_batches_and_takes_no_gpu,
)


def main(folder):
    assert keras.backend.backend() == "jax"
    found = {}
    with kit.tiny_names():
        for fact in FACTS:
            keras.utils.clear_session(free_memory=False)
            try:
                fact(folder)
                found[fact.__name__] = ""
            except BaseException:
                found[fact.__name__] = traceback.format_exc()
    (folder / "facts.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
