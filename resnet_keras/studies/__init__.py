"""The papers' tables and figures, one command each: `resnet-keras reproduce STUDY`.

A study is a module with a `STUDY`: what is to be trained, and how its results are read. running.py
trains with the ordinary training code and writes the page.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from resnet_keras.errors import InputError, nearest, whole

if TYPE_CHECKING:
    from resnet_keras.studies.study import Study

STUDIES = (
    "degradation",
    "shortcuts",
    "depth",
    "orderings",
    "shortcut-manipulations",
    "responses",
    "gradients",
    "single-layer-units",
    "lesions",
    "crops-and-ensembles",
    "comparison",
)

SEEDS = whole(1, 1000)


def check(name: str) -> None:
    """Raises InputError if there is no such study; the nearest names are suggested."""
    if name not in STUDIES:
        raise InputError("unknown study", received=repr(name), accepted=nearest(name, STUDIES))


def find(name: str) -> "Study":
    """The study of a name.

    Raises:
        InputError: see `check`.
    """
    check(name)
    return import_module(f"{__name__}.{name.replace('-', '_')}").STUDY
