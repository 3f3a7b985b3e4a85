"""A child process that ends with its parent."""

import os
import threading


def end_with_parent(pipe: int, status: int) -> None:
    """Ends this process as soon as its parent is gone, even if the parent was killed.

    Args:
        pipe: file descriptor that this process can read; the parent alone holds the other end, and
            writes nothing.
        status: exit status.
    """

    def follow() -> None:
        os.read(pipe, 1)  # returns when the other end is closed
        os._exit(status)

    threading.Thread(target=follow, daemon=True).start()
