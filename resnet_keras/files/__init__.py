"""Files on disk: atomic writing, JSON as dataclasses, HDF5 and HTML pages."""
