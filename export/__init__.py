"""Networks as files that apps load, each compared with Keras before it gets its name."""

from resnet_keras.export.exporting import export
from resnet_keras.export.formats import FORMATS
from resnet_keras.export.manifest import Exported, Manifest

__all__ = ["FORMATS", "Exported", "Manifest", "export"]
