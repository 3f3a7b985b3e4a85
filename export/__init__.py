"""Networks as files that apps load, each compared with Keras before it gets its name."""

from export.exporting import export
from export.findings import Exported, Findings
from export.formats import FORMATS

__all__ = ["FORMATS", "Exported", "Findings", "export"]
