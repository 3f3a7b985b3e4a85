"""A limit on the pixels that all threads of this process decode at the same time."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

PIXELS = 1 << 27
"""134 million: between 0.5 GB (a check) and 1.5 GB (decoding for a network), whatever the machine
has of threads."""


class Budget:
    """Limits the pixels of the images that threads decode at the same time.

    A larger image waits until it is alone. Threads take turns in the order in which they come.

    Args:
        pixels: of all images that are decoded at the same time.
    """

    def __init__(self, pixels: int) -> None:
        self._whole = self._left = pixels
        self._queue = threading.Lock()
        self._changed = threading.Condition()

    @contextmanager
    def take(self, pixels: int) -> Iterator[None]:
        """Waits until this number of pixels is free, and reserves them for the `with` block."""
        pixels = min(pixels, self._whole)
        with self._queue, self._changed:
            self._changed.wait_for(lambda: pixels <= self._left)
            self._left -= pixels
        try:
            yield
        finally:
            with self._changed:
                self._left += pixels
                self._changed.notify()  # one thread at most waits, the first of the queue


IN_FLIGHT = Budget(PIXELS)
