"""Folders that commands take and write where none is named."""

from pathlib import Path

from resnet_keras.errors import InputError

RUNS = Path("runs")
OR_LATEST = "(default: the latest run)"


def latest_run() -> Path:
    """The run whose best model is the newest.

    Raises:
        InputError: there is no run with a model.
    """
    models = sorted(RUNS.glob("*/best.keras"), key=lambda path: path.stat().st_mtime)
    if not models:
        raise InputError(
            "there is no run yet",
            received=f"nothing with a model in {RUNS}/",
            accepted="a run folder (make train-resnet50 trains one)",
        )
    return models[-1].parent
