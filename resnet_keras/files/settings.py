"""Frozen dataclasses as TOML: a table states what differs from a dataclass that is there already.

A part that is a dataclass itself is a table. TOML has no null: "none" is None where a field may be.
"""

import dataclasses
import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from resnet_keras.errors import InputError, bounds_of, did_you_mean_beside, first_line, nearest
from resnet_keras.files import structured

if TYPE_CHECKING:
    from tomlkit.items import Item, Table

T = TypeVar("T")
NONE = "none"
SUFFIX = ".toml"


def read(path: Path, accepted: str) -> dict[str, Any]:
    """Reads a TOML file.

    Args:
        path: the file.
        accepted: which file would be accepted, for the message.

    Raises:
        InputError: the file cannot be read, or is no TOML; the message names the line.
    """
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise InputError(
            f"{path.name} cannot be read",
            received=f"{path} ({error.strerror})",
            accepted=f"{accepted}{did_you_mean_beside(path)}",
        ) from error
    except (ValueError, RecursionError) as error:  # also of bytes that are no UTF-8
        raise InputError(
            f"{path.name} is not valid TOML",
            received=f"{path} ({first_line(error)})",
            accepted=accepted,
        ) from error


def changed(base: T, table: Mapping[str, Any], place: str = "", within: str = "") -> T:
    """A dataclass with the values of a table in place of its own.

    A table within changes the part that is there, if that has all fields of the table; otherwise it
    stands for a part of the kind that has them, with the defaults of that kind.

    Args:
        base: the dataclass.
        table: values by the names of fields, as TOML has them.
        place: the file that the table stands in, for messages.
        within: name of the table in the file, likewise.

    Raises:
        InputError: a field is unknown, or a value is of another type or out of range.
    """
    hints = hints_of(type(base))
    _check_names(table, hints, place, within)
    values = {}
    for name, value in table.items():
        called = f"{within}.{name}" if within else name
        hint, bounds = hints[name], bounds_of(type(base)).get(name)
        if value == NONE and NoneType in members_of(hint):
            values[name] = None
        elif any(map(dataclasses.is_dataclass, members_of(hint))):
            values[name] = _part(getattr(base, name), hint, value, place, called)
        else:
            accepted = str(bounds) if bounds else _described(hint)
            values[name] = structured.convert(value, hint, _at(place, called), accepted)
    try:
        return dataclasses.replace(base, **values)  # type: ignore[type-var]
    except InputError as error:
        raise InputError(
            _at(place, _at(within, error.problem)), received=error.received, accepted=error.accepted
        ) from error


def _part(old: Any, hint: Any, value: Any, place: str, called: str) -> Any:
    """The part that a table stands for."""
    if not isinstance(value, Mapping):
        raise InputError(
            _at(place, f"{called} has the wrong type"),
            received=repr(value),
            accepted=f"a table{f' or {NONE!r}' if NoneType in members_of(hint) else ''}",
        )
    kinds: list[Any] = [member for member in members_of(hint) if dataclasses.is_dataclass(member)]
    fields = {kind: hints_of(kind) for kind in kinds}
    _check_names(value, [one for names in fields.values() for one in names], place, called)
    fitting = [kind for kind, names in fields.items() if value.keys() <= names.keys()]
    if type(old) in fitting:
        return changed(old, value, place, called)
    if len(fitting) != 1:
        raise InputError(
            _at(place, f"the kind of {called} is unclear"),
            received=", ".join(value) or "no field",
            accepted="the fields of one kind: "
            + ", or ".join(" and ".join(names) for names in fields.values()),
        )
    return changed(fitting[0](), value, place, called)


def _check_names(table: Mapping[str, Any], known: Collection[str], place: str, of: str) -> None:
    for name in table:
        if name not in known:
            raise InputError(
                _at(place, f"unknown field{f' of {of}' if of else ''}"),
                received=repr(name),
                accepted=nearest(name, list(known)),
            )


def members_of(hint: Any) -> tuple[Any, ...]:
    """The types of a union, or the one type that is none."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _described(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return " or ".join(get_args(hint))
    if get_origin(hint) is tuple:
        return "a list of numbers"
    return {bool: "true or false", str: "a text"}.get(hint, "a number")


def _at(place: str, problem: str) -> str:
    return f"{place}: {problem}" if place else problem


@cache
def hints_of(kind: type) -> dict[str, Any]:
    """The fields of a dataclass and their types, without what `Annotated` adds."""
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


@cache
def help_of(kind: type) -> dict[str, str]:
    """The first sentence that the docstring of a dataclass has on each field."""
    from docstring_parser import DocstringStyle, parse

    told = {}
    for parameter in parse(kind.__doc__ or "", DocstringStyle.GOOGLE).params:
        text = " ".join((parameter.description or "").split())
        for name in parameter.arg_name.split(", "):
            told[name] = re.split(r"(?<! al)\. ", text)[0].removesuffix(".")
    return told


def write(settings: Any, heading: Sequence[str] = ()) -> str:
    """A dataclass as TOML that states every field, each with its help as a comment.

    Args:
        settings: the dataclass.
        heading: lines of comment at the top.
    """
    import tomlkit

    document = tomlkit.document()
    for line in heading:
        document.add(tomlkit.comment(line))
    if heading:
        document.add(tomlkit.nl())
    _fill(document, settings)
    return tomlkit.dumps(document)


def _plain(value: Any, hint: Any) -> Any:
    """A value as TOML has it: None is a word, and a whole number of a float field a float."""
    is_float = float in members_of(hint) and int not in members_of(hint)
    return NONE if value is None else float(value) if is_float else value


def _fill(table: "Table | Any", settings: Any) -> None:
    import tomlkit

    told = help_of(type(settings))
    fields = {
        name: _plain(getattr(settings, name), hint)
        for name, hint in hints_of(type(settings)).items()
    }
    plain: dict[str, Item] = {
        name: tomlkit.item(value)
        for name, value in fields.items()
        if not dataclasses.is_dataclass(value)
    }
    width = max((len(name) + len(item.as_string()) for name, item in plain.items()), default=0)
    for name, item in plain.items():
        if name in told:
            item.comment(told[name])
            item.trivia.comment_ws = " " * (width - len(name) - len(item.as_string()) + 2)
        table.add(name, item)
    for name, value in fields.items():
        if dataclasses.is_dataclass(value):
            part = tomlkit.table()
            part.comment((type(value).__doc__ or "").splitlines()[0])
            _fill(part, value)
            table.add(name, part)
