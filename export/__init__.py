"""Files for apps: SavedModel, TFLite, ONNX and Core ML, each compared with the Keras model."""

from resnet_keras.export.exporting import export
from resnet_keras.export.formats import FORMATS
from resnet_keras.export.manifest import Exported, Manifest

__all__ = ["FORMATS", "Exported", "Manifest", "export"]
