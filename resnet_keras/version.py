"""This package's version, of an installed one and of a checkout that is not installed."""

import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

try:
    VERSION = version("resnet-keras")
except PackageNotFoundError:
    _project = Path(__file__).parents[1] / "pyproject.toml"
    VERSION = tomllib.loads(_project.read_text("utf-8"))["project"]["version"]
