"""SIGINT and SIGTERM, noticed now and obeyed when the running step is done."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Whether one of the signals has come.

    Attributes:
        signal: the first that came, or None.
    """

    signal: int | None = None


@contextmanager
def awaited() -> Iterator[Interruption]:
    """Notices the first signal; a second one acts at once, as if nobody had waited for it.

    Threads other than the main one cannot wait for signals: there nothing changes.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def notice(number: int, frame: FrameType | None) -> None:
        interruption.signal = number
        print("\nstopping after this step; press Ctrl-C again to stop at once", flush=True)
        put_back()

    def put_back() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in SIGNALS:
        signal.signal(number, notice)
    try:
        yield interruption
    finally:
        put_back()
