"""Bad input: the error that says so in one line, what may have been meant, and bounds of settings.

A setting's numbers are declared beside it: `Annotated[int, whole(1, 100)]`.
"""

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar, get_args, get_origin
from unicodedata import category

P = ParamSpec("P")
T = TypeVar("T")

QUESTION = "did you mean "
MOST_NAMES = 100  # in a line


class InputError(ValueError):
    """Bad input, in one line: what is wrong, what was received, what is accepted.

    The command line prints it and exits with status 2. In Python it is an ordinary ValueError.

    Attributes:
        problem: what is wrong, without a full stop.
        received: the value at fault. A word that a user typed is quoted (`repr`).
        accepted: which values are accepted, or the question that `nearest` asks.
    """

    def __init__(
        self, problem: str, *, received: object, accepted: object, items: Iterable[str] = ()
    ) -> None:
        """Takes the attributes, and `items`: an indented line each, where much is wrong at once."""
        self.problem, self.received, self.accepted = map(_in_a_line, (problem, received, accepted))
        is_question = self.accepted.startswith(QUESTION)
        told = self.accepted if is_question else f"accepted: {self.accepted}"
        line = f"{self.problem}. Received: {self.received}; {told}"
        super().__init__("\n  ".join([line, *map(_in_a_line, items)]))

    def within(self, place: object, hint: str = "") -> "InputError":
        """The same error about something in a file or the like, its `accepted` with a hint."""
        return InputError(
            self.problem,
            received=f"{self.received}, in {place}",
            accepted=f"{self.accepted}{hint}",
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles by the message, so that a pool of processes can hand an error on."""
        return type(self).__new__, (type(self), *self.args), self.__dict__


def _in_a_line(value: object) -> str:
    """A value as text; line breaks, other control characters and lone surrogates are escaped."""
    return "".join(
        repr(one)[1:-1] if category(one) in ("Cc", "Cs", "Zl", "Zp") else one for one in str(value)
    )


class NotDownloadedError(InputError):
    """A public dataset is not on this machine, and can be downloaded.

    Attributes:
        download: fetches the dataset, after which it is found.
    """

    def __init__(
        self, *, received: object, accepted: object, download: Callable[[], object]
    ) -> None:
        """Takes the attributes."""
        self.download = download
        super().__init__("the dataset is not downloaded yet", received=received, accepted=accepted)


class TrainingError(Exception):
    """Training cannot go on: the loss is not finite, or a file cannot be written.

    The message says what to do.
    """


class DivergedError(TrainingError):
    """The loss is not finite."""


class ExportError(Exception):
    """A file could not be made, or does not answer as the model does; the message tells which."""


class Interrupted(KeyboardInterrupt):
    """Training was asked to stop, and did so after a whole step that is in a checkpoint.

    Attributes:
        signal: which asked, such as signal.SIGTERM.
    """

    def __init__(self, signal: int, message: str) -> None:
        super().__init__(message)
        self.signal = signal


def nearest(received: str, accepted: Sequence[str], likeness: float = 0.6) -> str:
    """What is accepted in place of a name: the names most like it as a question, or all names.

    Args:
        received: the name.
        accepted: all names.
        likeness: least ratio of difflib; names with a common prefix need a higher one.
    """
    close = difflib.get_close_matches(received, accepted, n=3, cutoff=likeness)
    if close:
        return f"{QUESTION}{', '.join(close)}?"
    more = len(accepted) - MOST_NAMES
    return ", ".join(accepted[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def did_you_mean(received: str, known: Iterable[str]) -> str:
    """Words for the end of a message that has told what is accepted; none if nothing is like it."""
    close = difflib.get_close_matches(received, list(known), n=1)
    return f"; {QUESTION}{close[0]!r}?" if close else ""


def did_you_mean_beside(path: Path) -> str:
    """The same for a path: what lies in its folder and is called almost like it."""
    try:
        beside = [child.name for child in path.parent.iterdir()]
    except OSError:
        return ""
    close = difflib.get_close_matches(path.name, beside, n=1)
    return f"; {QUESTION}{str(path.with_name(close[0]))!r}?" if close else ""


def first_line(error: BaseException) -> str:
    """What another package says of an error, short enough for a line of ours."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def first_sentence(error: BaseException) -> str:
    """The same, without its advice."""
    return first_line(error).split(". ")[0]


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
