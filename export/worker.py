"""One step of an export, in a process of its own: python -m resnet_keras.export.worker FOLDER STEP.

Converters take gigabytes, and some end the process. It ends by itself once nobody holds the other
end of its standard input.
"""

import json
import resource
import sys
import time
from dataclasses import asdict
from pathlib import Path

import keras
import numpy as np

from resnet_keras.errors import InputError
from resnet_keras.export import parity
from resnet_keras.export.folding import gives_probabilities, inference_model
from resnet_keras.export.formats import FORMATS
from resnet_keras.export.workspace import PREPARE, REFUSED, Workspace
from resnet_keras.networks.feature_maps import in_float32
from resnet_keras.networks.loading import load_model
from resnet_keras.processes import end_with_parent


def prepare(workspace: Workspace) -> dict[str, object]:
    """Folds the model, and asks Keras what the files have to answer."""
    trained = load_model(workspace.model)
    images = workspace.read_array("images")
    labels = workspace.read_array("labels")
    expected = _probabilities(trained, images)
    workspace.write_array("probabilities", expected)
    model = inference_model(trained)
    model.save(workspace.inference_model)
    found = parity.compare(model.predict(images, verbose=0), expected, labels)
    return {
        "parity": asdict(found),
        "latency": parity.latency(lambda batch: np.asarray(model.predict_on_batch(batch)), images),
        "policy": next(layer.dtype_policy.name for layer in trained.layers if layer.weights),
    }


def _probabilities(trained: keras.Model, images: np.ndarray) -> np.ndarray:
    """What the files are to answer: of logits their softmax, of one sigmoid both classes."""
    scores = in_float32(trained).predict(images, verbose=0)
    if not gives_probabilities(trained.layers[-1]):
        return keras.ops.convert_to_numpy(keras.ops.softmax(scores))
    return np.concatenate([1 - scores, scores], axis=1) if scores.shape[1] == 1 else scores


def make(workspace: Workspace, name: str) -> dict[str, object]:
    """Writes a format's file, loads it in its runtime and compares it with Keras."""
    chosen = FORMATS[name]
    path = workspace.made(chosen.file)
    model = load_model(workspace.inference_model)
    chosen.convert(model, workspace.read_card(), workspace.read_array("calibration"), path)
    if not chosen.runs_here and sys.platform != "darwin":
        return {"parity": None, "latency": None}
    predict = chosen.predictor(path)
    images, expected, labels = map(workspace.read_array, ("images", "probabilities", "labels"))
    found = parity.farthest(predict, images, expected, labels, chosen.batch_sizes)
    return {"parity": asdict(found), "latency": parity.latency(predict, images)}


def main(folder: str, step: str) -> None:
    """Does one step, and leaves what it found."""
    end_with_parent(sys.stdin.fileno(), 1)
    workspace = Workspace(Path(folder))
    keras.config.disable_interactive_logging()
    start = time.perf_counter()
    try:
        found = prepare(workspace) if step == PREPARE else make(workspace, step)
    except InputError as error:
        print(error, file=sys.stderr)
        raise SystemExit(REFUSED) from None
    found["seconds"] = time.perf_counter() - start
    found["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    workspace.finding(step).write_text(json.dumps(found), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
