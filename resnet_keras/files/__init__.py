"""Files on disk: atomic writes, JSON as dataclasses, HDF5, HTML pages."""
