"""Files that are there whole or not at all."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

PARTIAL = ".partial-"  # what a killed process may leave behind


def write_file(path: Path, write: Callable[[Path], Any]) -> None:
    """Lets `write` make a file beside `path`, then renames it into place.

    The name beside it keeps its ending, which tells Keras the format.
    """
    partial = path.with_name(f"{PARTIAL}{path.name}")
    try:
        write(partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole or not at all."""
    write_file(path, lambda partial: partial.write_text(text))
