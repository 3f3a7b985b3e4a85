"""Values that settings accept, declared beside the setting: `Annotated[int, whole(1, 100)]`."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from numbers import Integral, Real
from typing import Any, Literal, ParamSpec, TypeVar, get_args, get_origin

from resnet_keras.errors import InputError

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Bounds:
    """An interval of numbers.

    Attributes:
        low, high: its ends.
        is_whole: whether the numbers are whole.
        has_low, has_high: whether the ends belong to the interval.
    """

    low: float
    high: float
    is_whole: bool = False
    has_low: bool = True
    has_high: bool = True

    def __str__(self) -> str:
        if self.is_whole:
            return f"a whole number from {self.low:,} to {self.high:,}"
        left, right = "(["[self.has_low], ")]"[self.has_high]
        return f"a number in {left}{self.low:g}, {self.high:g}{right}"

    def __contains__(self, value: Any) -> bool:
        kind: type = Integral if self.is_whole else Real
        return (
            isinstance(value, kind)
            and not isinstance(value, bool)
            and (self.low < value or (self.has_low and value == self.low))
            and (value < self.high or (self.has_high and value == self.high))
        )

    def check(self, name: str, value: object) -> None:
        """Raises InputError if a setting's value, or one of a tuple, is outside."""
        if not all(one in self for one in (value if isinstance(value, tuple) else [value])):
            raise InputError(f"{name} is out of range", received=repr(value), accepted=self)


def whole(low: int, high: int) -> Bounds:
    """Whole numbers, both ends included."""
    return Bounds(low, high, is_whole=True)


def number(low: float, high: float, ends: str = "[]") -> Bounds:
    """Numbers, with or without the ends, as mathematics spells them: "[]", "(]", "[)" or "()"."""
    return Bounds(low, high, has_low=ends[0] == "[", has_high=ends[1] == "]")


MANY = 2**31 - 1  # of what is only counted: 32 bits hold it on every backend
LARGEST_FLOAT = 3e38  # of single precision, nearly

IMAGE_SIZE = whole(1, 8192)  # pixels of a side: a batch of one such image still fits a machine
COUNT = whole(1, MANY)
PORTS = whole(0, 65535)  # 0 is any free one
POSITIVE = number(0, LARGEST_FLOAT, "(]")


def check_fields(settings: object) -> None:
    """Checks the fields of a dataclass: bounds of numbers, choices of `Literal`, and booleans.

    Raises:
        InputError: the first field that is out of its bounds, no choice or no boolean.
    """
    _check(_bounds_of(type(settings)), vars(settings))
    for name, choices in _choices_of(type(settings)).items():
        value = getattr(settings, name)
        if not any(type(value) is type(one) and value == one for one in choices):
            raise InputError(
                f"{name} has an unknown value",
                received=repr(value),
                accepted=" or ".join(map(repr, choices)),
            )


def bounds_of(annotated: Callable[..., object]) -> dict[str, Bounds]:
    """Bounds of the fields of a dataclass or the arguments of a function, by their names."""
    return {name: bounds for name, bounds, _ in _bounds_of(annotated)}


def check_arguments(function: Callable[P, T]) -> Callable[P, T]:
    """Decorator that checks those arguments of a function whose annotations have bounds.

    Arguments that are dataclasses are checked by `check_fields`. Whoever calls the function gets an
    InputError for the first value that is out of its bounds.
    """
    bounds, signature = _bounds_of(function), inspect.signature(function)

    @functools.wraps(function)
    def check_and_call(*arguments: P.args, **options: P.kwargs) -> T:
        given = signature.bind_partial(*arguments, **options).arguments
        _check([one for one in bounds if one[0] in given], given)
        for value in given.values():
            if is_dataclass(value) and not isinstance(value, type):
                check_fields(value)
        return function(*arguments, **options)

    return check_and_call


def _check(bounds: Sequence[tuple[str, Bounds, bool]], values: Mapping[str, object]) -> None:
    for name, one, may_be_none in bounds:
        if values[name] is not None or not may_be_none:
            one.check(name, values[name])


@functools.cache
def _bounds_of(annotated: Callable[..., object]) -> tuple[tuple[str, Bounds, bool], ...]:
    """Names, their bounds, and whether None is a value, too."""
    return tuple(
        (name, one, type(None) in get_args(get_args(hint)[0]))
        for name, hint in inspect.get_annotations(annotated).items()
        for one in getattr(hint, "__metadata__", ())
        if isinstance(one, Bounds)
    )


@functools.cache
def _choices_of(annotated: type) -> dict[str, tuple[Any, ...]]:
    """Names of the fields that are a `Literal` or a boolean, and what they may be."""
    hints = inspect.get_annotations(annotated)
    choices = {name: get_args(hint) for name, hint in hints.items() if get_origin(hint) is Literal}
    return choices | {name: (True, False) for name, hint in hints.items() if hint is bool}
