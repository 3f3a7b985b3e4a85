"""Progress of what may take minutes, on a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress


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
