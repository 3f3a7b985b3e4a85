"""Settings of nbconvert for `make notebooks`: runs a notebook in place and keeps what all machines share."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import solutions

c = get_config()  # noqa: F821  # nbconvert defines it

c.NbConvertApp.export_format = "notebook"
c.NbConvertApp.use_output_suffix = False
c.FilesWriter.build_directory = ""

# In this order: solutions become code cells, all cells run, the cells of solutions go, and metadata goes.
c.Exporter.default_preprocessors = []
c.Exporter.preprocessors = [
    solutions.unfold,
    "nbconvert.preprocessors.ExecutePreprocessor",
    "nbconvert.preprocessors.CoalesceStreamsPreprocessor",
    solutions.fold,
    "nbconvert.preprocessors.ClearMetadataPreprocessor",
]

# Neither the time of a cell nor what TensorFlow's C++ code prints about missing GPUs.
c.ExecutePreprocessor.enabled = True
c.ExecutePreprocessor.record_timing = False
c.ExecutePreprocessor.extra_arguments = ["--IPKernelApp.capture_fd_output=False"]
c.CoalesceStreamsPreprocessor.enabled = True

c.ClearMetadataPreprocessor.enabled = True
c.ClearMetadataPreprocessor.preserve_nb_metadata_mask = {("kernelspec",), ("language_info", "name")}
c.ClearMetadataPreprocessor.preserve_cell_metadata_mask = {("tags",)}
