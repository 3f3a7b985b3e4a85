"""What went wrong, told in one line, and what may have been meant."""

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from unicodedata import category

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


def nearest(received: str, accepted: Sequence[str]) -> str:
    """What is accepted in place of a name: the names most like it as a question, or all names."""
    close = difflib.get_close_matches(received, accepted, n=3, cutoff=0.6)
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
