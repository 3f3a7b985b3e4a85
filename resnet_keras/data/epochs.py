"""How images become epochs, the same in every pipeline."""

from dataclasses import dataclass


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Full batches in one pass over the images, and one of them all if there are fewer than that.

    The few images left over differ from epoch to epoch.
    """
    return max(images // batch_size, 1)


@dataclass(frozen=True)
class Share:
    """Which rows of every batch a process loads: one of `count` equal blocks.

    Attributes:
        index: of the block, from 0 on.
        count: of processes.
    """

    index: int = 0
    count: int = 1

    def rows(self, batch_size: int) -> slice:
        size = batch_size // self.count
        return slice(self.index * size, (self.index + 1) * size)


WHOLE = Share()
