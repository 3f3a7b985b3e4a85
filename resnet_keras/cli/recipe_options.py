"""Options that replace values of a recipe, made of the fields of `Recipe` and their help.

`--recipe.FIELD VALUE` stands for the line `FIELD = VALUE` of a recipe file. Common fields have
short options, too, such as --epochs.
"""

from collections.abc import Mapping
from dataclasses import is_dataclass
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict, get_args, get_origin

import tyro

from resnet_keras.errors import InputError
from resnet_keras.files.settings import NONE, help_of, hints_of, members_of
from resnet_keras.recipes import SHORT_OPTIONS, Recipe

SHOWN = 6  # of the short options, in --help; --help-all shows all
WIDTH = 20  # in letters, of what stands for a value
METAVARS = {int: "INT", float: "FLOAT", str: "STR"}
_OFF = " off"  # ends the key of the option that leaves a part out

_YES_OR_NO = tyro.constructors.PrimitiveConstructorSpec(
    nargs=1,
    metavar="yes|no",
    instance_from_str=lambda words: words[0] == "yes",
    is_instance=lambda value: isinstance(value, bool),
    str_from_instance=lambda value: ["yes" if value else "no"],
    choices=("yes", "no"),
)


def _options(*kinds: type) -> dict[str, Any]:
    """The types of the options of dataclasses, one of which a table may stand for."""
    options = {}
    for kind in kinds:
        for name, hint in hints_of(kind).items():
            parts: list[Any] = [member for member in members_of(hint) if is_dataclass(member)]
            if not parts:
                options[name] = _option(hint, help_of(kind)[name])
                continue
            options[name] = TypedDict(name, _options(*parts), total=False)  # type: ignore[misc]
            if NoneType in members_of(hint):
                off = tyro.conf.arg(name=name, metavar=NONE, help=f"leave {name} out")
                options[f"{name}{_OFF}"] = Annotated[Literal["none"], off]
    return options


def _option(hint: Any, told: str) -> Any:
    """The type of an option for a field that is no part."""
    plain: Any
    (plain,) = (member for member in members_of(hint) if member is not NoneType)
    if get_origin(plain) is Literal:
        choices = "|".join(get_args(plain))
        metavar = choices if len(choices) <= WIDTH else "NAME"
    elif get_origin(plain) is tuple:
        metavar = "FLOAT FLOAT" if get_args(plain)[-1] is float else "FLOAT ..."
    else:
        metavar = METAVARS.get(plain, "yes|no")
    if NoneType in members_of(hint):
        plain, metavar = plain | Literal["none"], f"{metavar}|{NONE}"
    shown = tyro.conf.arg(metavar=metavar, help=told, help_behavior_hint="")
    if plain is bool:
        return Annotated[bool, _YES_OR_NO, tyro.conf.FlagConversionOff, shown]
    return Annotated[plain, shown]


if TYPE_CHECKING:
    ShortOptions = HiddenShortOptions = LongOptions = Mapping[str, Any]
else:
    _ALL = _options(Recipe)
    ShortOptions = TypedDict(
        "ShortOptions", {name: _ALL[name] for name in SHORT_OPTIONS[:SHOWN]}, total=False
    )
    ShortOptions.__doc__ = (
        "Replace values of the recipe. --recipe.FIELD replaces any value, such as "
        "--recipe.optimizer lamb; `resnet-keras recipe show quick` lists the fields."
    )
    HiddenShortOptions = TypedDict(
        "HiddenShortOptions", {name: _ALL[name] for name in SHORT_OPTIONS[SHOWN:]}, total=False
    )
    HiddenShortOptions.__doc__ = "Replace further values of the recipe."
    LongOptions = TypedDict("LongOptions", _ALL, total=False)
    LongOptions.__doc__ = "Replace any value of the recipe."


def table_of(short: Mapping[str, Any], long: Mapping[str, Any]) -> dict[str, Any]:
    """The options that are given, as a recipe file has them.

    Raises:
        InputError: a value is given twice.
    """
    table = _given(long)
    for name, value in short.items():
        if name in table:
            option = name.replace("_", "-")
            raise InputError(
                f"{name} is given twice",
                received=f"--{option} and --recipe.{option}",
                accepted="one of the two",
            )
        table[name] = value
    return table


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Without the tables that are empty, as tyro makes one of every part."""
    table = {}
    for key, value in options.items():
        name = key.removesuffix(_OFF)
        if isinstance(value, Mapping):
            value = _given(value)
            if not value:
                continue
        if name in table:
            raise InputError(
                f"{name} is both left out and given values",
                received=f"--recipe.….{name} {NONE}, and options of {name}",
                accepted="one of the two",
            )
        table[name] = value
    return table
