"""Python's recursion limit, raised where a deep network needs it and put back."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def recursion_for(layers: int) -> Iterator[None]:
    """Lets Keras walk a graph of so many layers, which it does by recursion; not for longer.

    A network of more than some 300 layers would pass Python's limit.
    """
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, 1000 + 2 * layers))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)
