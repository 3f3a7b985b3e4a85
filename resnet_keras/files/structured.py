"""JSON files as dataclasses: every field is there, of its type, and no other field is.

pydantic does the work. The checks are strict ("24" and 24.0 are no int, true is no number); a list
becomes a tuple, a whole number a float, and a union of dataclasses the one whose fields are there.
"""

import json
import reprlib
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

from resnet_keras.errors import InputError

if TYPE_CHECKING:
    from pydantic import TypeAdapter
    from pydantic_core import ErrorDetails

T = TypeVar("T")

JsonObject: TypeAlias = dict[str, Any]
"""A JSON object as Python reads it: values are texts, numbers, booleans, None, lists, objects."""

Extra = Literal["forbid", "ignore"]


def read(path: Path, kind: type[T], accepted: str, extra: Extra = "forbid") -> T:
    """Reads a JSON file.

    Args:
        path: the file.
        kind: what to read it into: a dataclass, or a type such as `JsonObject`.
        accepted: which file would be accepted, and how to get one, for the message.
        extra: whether fields that the type does not have are errors.

    Raises:
        FileNotFoundError: there is no such file.
        InputError: the file cannot be read, or a field is missing, unknown or of another type or
            range; the message names the file and the field.
    """
    try:
        return parse(path.read_bytes(), kind, path, accepted, extra)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise InputError(
            f"{path.name} cannot be read", received=f"{path} ({error.strerror})", accepted=accepted
        ) from error


def read_format(
    path: Path, formats: Collection[int], accepted: str, name: str = "format"
) -> JsonObject:
    """Reads a JSON file that tells its format.

    Args:
        path, accepted: see `read`.
        formats: that can be read.
        name: of the field with the format.

    Returns:
        The whole object, of which nothing else is known yet.

    Raises:
        FileNotFoundError, InputError: see `read`; or the format is another one.
    """
    content = read(path, JsonObject, accepted)
    found = content.get(name)
    if type(found) is not int or found not in formats:
        raise InputError(
            f"{path.name} has an unknown format",
            received=f"{path} ({name}: {reprlib.repr(found)})",
            accepted=f"{name} {' or '.join(map(str, formats))}",
        )
    return content


def convert(
    content: object,
    kind: type[T],
    place: Path | str,
    accepted: str,
    extra: Extra = "forbid",
) -> T:
    """Turns a value that `read` or a TOML file has given into a dataclass, say; see `parse`."""
    # TOML has dates, which no field takes; as texts they are refused.
    return parse(json.dumps(content, default=str), kind, place, accepted, extra)


def parse(
    text: str | bytes,
    kind: type[T],
    place: Path | str,
    accepted: str,
    extra: Extra = "forbid",
) -> T:
    """Turns a JSON text into a dataclass.

    Args:
        text: in UTF-8.
        kind, accepted, extra: see `read`.
        place: the file that holds the text, or what the text describes, for the message.

    Raises:
        InputError: see `read`.
    """
    from pydantic import ValidationError

    reader = _reader(kind)
    try:
        try:
            return reader.validate_json(text, strict=True, extra=extra)
        except ValidationError as error:
            # Of a path that is no UTF-8, which Python's own reader alone takes.
            if "surrogate" not in error.errors()[0]["msg"]:
                raise
            return reader.validate_python(json.loads(text), extra=extra)
    except (ValidationError, ValueError, RecursionError) as error:
        told = _told(error.errors()) if isinstance(error, ValidationError) else str(error)
        if isinstance(place, str):
            raise InputError(f"{place} cannot be read", received=told, accepted=accepted) from error
        raise InputError(
            f"{place.name} is damaged", received=f"{place} ({told})", accepted=accepted
        ) from error


@cache
def _reader(kind: type[T]) -> "TypeAdapter[T]":
    from pydantic import TypeAdapter  # a tenth of a second, which --help need not wait for

    return TypeAdapter(kind)


def _told(errors: "list[ErrorDetails]") -> str:
    """The first field at fault, and why; of a union not what another member would lack."""
    unknown = "unexpected_keyword_argument"
    first = next((error for error in errors if error["type"] != unknown), errors[0])
    cause = first.get("ctx", {}).get("error")
    if first["type"] in (unknown, "missing"):
        reason = "there is no such field" if first["type"] == unknown else "missing"
    elif isinstance(cause, InputError):
        reason = f"{cause.problem}: {cause.received}"
    elif first["type"] in ("json_invalid", "value_error"):
        reason = first["msg"]
    else:
        reason = reprlib.repr(first["input"])  # the message has what is accepted
    line = ": ".join(filter(None, [".".join(map(str, first["loc"])), reason]))
    return " ".join(line.split())  # one line, whatever the name of a field is
