"""How images become epochs, the same in every pipeline."""


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Full batches in one pass over the images, and one of them all if there are fewer than that.

    The few images left over differ from epoch to epoch.
    """
    return max(images // batch_size, 1)
