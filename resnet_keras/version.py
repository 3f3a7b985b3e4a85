"""Versions of this package and of those beside it."""

import platform
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

try:
    VERSION = version("resnet-keras")
except PackageNotFoundError:  # a checkout that is not installed
    _project = Path(__file__).parents[1] / "pyproject.toml"
    VERSION = tomllib.loads(_project.read_text("utf-8"))["project"]["version"]


def versions(*packages: str) -> dict[str, str]:
    """Versions of Python, of this package and of those named packages that are installed."""
    found = {"python": platform.python_version(), "resnet-keras": VERSION}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
