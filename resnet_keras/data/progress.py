"""Progress of long tasks: a bar on a terminal, elsewhere a line every 30 seconds."""

import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress

SILENCE = 30  # seconds without a line, at most


@contextmanager
def threads() -> Iterator[ThreadPoolExecutor]:
    """A pool that drops what it has not begun when something goes wrong, or Ctrl-C is pressed."""
    pool = ThreadPoolExecutor()
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def shown(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Shows the progress of a task on stderr while inside.

    A terminal has a bar, which disappears at the end. Elsewhere there is a line every 30 seconds.

    Args:
        what: is going on.
        total: number of images.

    Yields:
        A function that takes the number of images done since its last call.
    """
    bar = Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
    clock = Clock()
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        bar.advance(task, count)
        if bar.disable and done < total and clock.is_due():
            left = duration(clock.seconds * (total - done) / max(done, 1))
            print(f"{what}: {done:,} of {total:,} images, {left} left", file=sys.stderr, flush=True)

    with bar:
        task = bar.add_task(what, total=total)
        yield advance


class Clock:
    """Says when the next line is due.

    Attributes:
        started: when the clock was made, in seconds of time.perf_counter.
    """

    def __init__(self) -> None:
        self.started = self._last_line = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.perf_counter() - self.started

    def is_due(self) -> bool:
        """Whether nothing was said for 30 seconds; if so, something is said now."""
        if time.perf_counter() - self._last_line < SILENCE:
            return False
        self.reset()
        return True

    def reset(self) -> None:
        """Notes that something was said."""
        self._last_line = time.perf_counter()


def duration(seconds: float) -> str:
    """A time in words: 40 s, 12 min, 3 h 05 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
