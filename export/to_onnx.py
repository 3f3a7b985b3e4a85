"""ONNX files, in float32 and int8, and what onnxruntime makes of them.

Both take "pixels", (batch, height, width, 3) float32 RGB 0..255, and give "probabilities",
(batch, classes) float32; the batch is open. The file's metadata hold the card: "name",
"description", "labels", a JSON list in the order of the outputs, and "view", a JSON object.
"""

import gc
import json
import re
import tempfile
from collections.abc import Callable, Collection, Iterator
from itertools import chain, count
from pathlib import Path

import keras
import numpy as np
import onnx
import onnxruntime
import tensorflow as tf
from onnx import version_converter
from onnxruntime import quantization
from onnxruntime.quantization.shape_inference import quant_pre_process
from tf2onnx import optimizer, tf_loader, tfonnx
from tf2onnx.optimizer.back_to_back_optimizer import BackToBackOptimizer
from tf2onnx.optimizer.const_fold_optimizer import ConstFoldOptimizer
from tf2onnx.optimizer.global_pool_optimizer import GlobalPoolOptimizer
from tf2onnx.optimizer.identity_optimizer import IdentityOptimizer
from tf2onnx.optimizer.reshape_optimizer import ReshapeOptimizer
from tf2onnx.optimizer.transpose_optimizer import TransposeOptimizer

from resnet_keras.export.calibration import of_full_range
from resnet_keras.export.card import ModelCard
from resnet_keras.networks.recursion import recursion_for

OPSET = 18
CONVERTED_OPSET = 17  # at 18 tf2onnx leaves a transpose before the global average
INPUT, OUTPUT, BATCH = "pixels", "probabilities", "batch"
IMAGES_AT_ONCE = 8
THREADS = 2
COUNTER = re.compile(r"__\d+(?=:|$)")  # in tf2onnx's names

# The others of tf2onnx's are for recurrent and quantised graphs. Every one of them costs as much
# memory as all weights together, in each of its rounds.
OPTIMIZERS = {
    "reshape_optimizer": ReshapeOptimizer,
    "optimize_transpose": TransposeOptimizer,
    "fold_constants": ConstFoldOptimizer,
    "global_pool_optimizer": GlobalPoolOptimizer,
    "remove_identity": IdentityOptimizer,
    "remove_back_to_back": BackToBackOptimizer,
}


def convert_float32(
    model: keras.Model, card: ModelCard, calibration: np.ndarray, path: Path
) -> None:
    """Writes a model as ONNX in float32.

    Args:
        model: as `folding.inference_model` makes it.
        card: for the file's metadata.
        calibration: not needed.
        path: of the file.

    Raises:
        onnx.checker.ValidationError: the graph is not valid.
    """
    del calibration
    with recursion_for(len(model.layers)):
        _write(_converted(model, card.name), card, path)


def convert_int8(model: keras.Model, card: ModelCard, calibration: np.ndarray, path: Path) -> None:
    """Writes a model as ONNX in int8: uint8 activations, int8 weights with a scale per filter.

    Input and output stay float32. Pairs of QuantizeLinear and DequantizeLinear say what is
    quantised; runtimes merge them with the operations between. The weights use 7 of their 8 bits:
    processors without VNNI add up products of full ones in 16 bits, which overflow, and answer
    otherwise than all others.

    Args:
        model: as `folding.inference_model` makes it.
        card: for the file's metadata.
        calibration: (n, height, width, 3) uint8, images as the model will see them, whose least and
            largest activations become the ranges of the integers; 100 to 500 are customary.
        path: of the file.

    Raises:
        onnx.checker.ValidationError: the graph is not valid.
    """
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        exact, prepared = Path(folder, "float32.onnx"), Path(folder, "prepared.onnx")
        convert_float32(model, card, calibration, exact)
        # All shapes but the batch's are known; the symbolic inference fails on subsampled maps.
        quant_pre_process(exact, prepared, skip_symbolic_shape=True)
        quantization.quantize_static(
            prepared,
            path,
            _CalibrationImages(calibration),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            nodes_to_exclude=_kept_in_float(onnx.load(prepared).graph),
        )
    _write(onnx.load(path), card, path)


def predictor(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Loads a file in onnxruntime, on the CPU.

    Returns:
        A function from (n, height, width, 3) uint8 to probabilities, (n, classes) float32.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (probabilities,) = session.get_outputs()
    no_answers = np.empty((0, probabilities.shape[1]), np.float32)

    def predict(images: np.ndarray) -> np.ndarray:
        answers = [session.run([OUTPUT], batch)[0] for batch in _batches(images)]
        return np.concatenate([no_answers, *answers])

    return predict


def _kept_in_float(graph: onnx.GraphProto) -> list[str]:
    """Names of the nodes that eight bits would harm and not hasten.

    Those are the softmax, whose small probabilities would be 0, and what scales and shifts by
    constants: the normalisation of the pixels, a scaled shortcut.
    """
    constants = {constant.name for constant in graph.initializer}
    return [
        node.name
        for node in graph.node
        if node.op_type == "Softmax"
        or (node.op_type in ("Mul", "Add") and constants.intersection(node.input))
    ]


class _CalibrationImages(quantization.CalibrationDataReader):
    """Images as onnxruntime's quantisation asks for them."""

    def __init__(self, images: np.ndarray) -> None:
        self.batches = _batches(of_full_range(images))

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.batches, None)


def _batches(images: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
    for start in range(0, len(images), IMAGES_AT_ONCE):
        yield {INPUT: images[start : start + IMAGES_AT_ONCE].astype(np.float32)}


def _converted(model: keras.Model, name: str) -> onnx.ModelProto:
    graph = tfonnx.process_tf_graph(
        _frozen(model),
        opset=CONVERTED_OPSET,
        input_names=[f"{INPUT}:0"],
        output_names=["Identity:0"],
        tensors_to_rename={f"{INPUT}:0": INPUT, "Identity:0": OUTPUT},
    )
    # tf2onnx's own entry point goes on where an optimiser fails, and copies the graph before each.
    graph = optimizer.optimize_graph(graph, catch_errors=False, optimizers=OPTIMIZERS)
    converted = graph.make_model(name)
    del graph
    gc.collect()  # tf2onnx's graphs are cycles, with the weights in them many times over
    return version_converter.convert_version(converted, OPSET)


def _frozen(model: keras.Model) -> tf.Graph:
    """The model's graph with its weights as constants, from "pixels:0" to "Identity:0"."""
    function = tf.function(lambda pixels: model(pixels, training=False))
    signature = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name=INPUT)
    frozen = tf_loader.from_function(
        function.get_concrete_function(signature), [f"{INPUT}:0"], ["Identity:0"]
    )
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(frozen, name="")
    return graph


def _write(model: onnx.ModelProto, card: ModelCard, path: Path) -> None:
    """Adds the card, checks the whole and saves it; the same model gives the same bytes."""
    used = {node.domain for node in model.graph.node}
    for opset in [opset for opset in model.opset_import if opset.domain not in used]:
        model.opset_import.remove(opset)  # of onnxruntime's, other runtimes know nothing
    _sort(model.graph)
    _rename(model.graph)
    labels = json.dumps(card.class_names, ensure_ascii=False)
    sides = model.graph.input[0].type.tensor_type.shape.dim
    view = card.view_as_json([side.dim_value for side in sides])
    onnx.helper.set_model_props(
        model,
        {
            "name": card.name,
            "description": card.description,
            "labels": labels,
            "view": view,
        },
    )
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def _sort(graph: onnx.GraphProto) -> None:
    """Puts every node right behind the last one that it needs, one branch after the other.

    Converters work through Python's sets, whose order is another one in every process.
    """
    made_by = {node.output[0]: node for node in graph.node}
    ordered: dict[str, onnx.NodeProto] = {}
    needed = [OUTPUT]
    while needed:
        node = made_by[needed[-1]]
        missing = [name for name in node.input if name in made_by and name not in ordered]
        if missing:
            needed.append(missing[0])
        else:
            ordered[needed.pop()] = node
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in ordered.values()]
    del graph.node[:]
    graph.node.extend(nodes)


def _rename(graph: onnx.GraphProto) -> None:
    """Names the batch, and takes tf2onnx's counters, which depend on sets too, out of all names."""
    for tensor in (*graph.input, *graph.output, *graph.value_info):
        for size in tensor.type.tensor_type.shape.dim:
            if size.dim_param:  # nothing but the batch is open
                size.dim_param = BATCH
    nodes, tensors = set[str](), {INPUT: INPUT, OUTPUT: OUTPUT}
    for node in graph.node:
        node.name = _free(node.name, nodes)
        nodes.add(node.name)
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name not in tensors:
                    tensors[name] = _free(name, tensors.values())
                names[index] = tensors[name]
    for stale in [shape for shape in graph.value_info if shape.name not in tensors]:
        graph.value_info.remove(stale)
    for tensor in (*graph.initializer, *graph.value_info):
        tensor.name = tensors[tensor.name]
    graph.initializer.sort(key=lambda tensor: tensor.name)
    graph.value_info.sort(key=lambda tensor: tensor.name)


def _free(name: str, taken: Collection[str]) -> str:
    """The name without its counter, numbered in the order of the nodes where that is taken."""
    stem = COUNTER.sub("", name)
    numbered = (f"{stem}_{number}" for number in count(2))
    return next(name for name in chain([stem], numbered) if name not in taken)
