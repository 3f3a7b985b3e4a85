"""What may take minutes: threads that stop when they are told to, and a bar on a terminal."""

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress


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
    """Shows a bar on stderr while inside, if that is a terminal; it goes when all is done.

    Args:
        what: is going on.
        total: images that it is about.

    Yields:
        what to call with the number of images that are done since the last call.
    """
    bar = Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
    with bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)
