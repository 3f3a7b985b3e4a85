"""Settings of nbconvert for `make notebooks`: runs a notebook in place and keeps what all machines share."""

c = get_config()  # noqa: F821  # nbconvert defines it

c.NbConvertApp.export_format = "notebook"
c.NbConvertApp.use_output_suffix = False
c.FilesWriter.build_directory = ""

# Neither the time of a cell nor what TensorFlow's C++ code prints about missing GPUs.
c.ExecutePreprocessor.enabled = True
c.ExecutePreprocessor.record_timing = False
c.ExecutePreprocessor.extra_arguments = ["--IPKernelApp.capture_fd_output=False"]

c.ClearMetadataPreprocessor.enabled = True
c.ClearMetadataPreprocessor.preserve_nb_metadata_mask = {("kernelspec",), ("language_info", "name")}
c.ClearMetadataPreprocessor.preserve_cell_metadata_mask = {("cellView",), ("jupyter",), ("tags",)}
