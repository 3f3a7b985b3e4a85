"""resnet-keras serve: exported files as a page for a phone."""

from pathlib import Path
from typing import Annotated

import tyro

from resnet_keras.cli.folders import OR_LATEST, latest_run
from resnet_keras.errors import PORTS, check_arguments


@check_arguments
def serve(
    export: tyro.conf.Positional[
        Annotated[Path | None, tyro.conf.arg(metavar="RUN|FOLDER", help_behavior_hint=OR_LATEST)]
    ] = None,
    port: Annotated[int, PORTS] = 8000,
) -> None:
    """Serve a page that runs exported files, on a phone too.

    The page classifies photographs. No photograph leaves the device. The page is served to this
    machine only.

    Example: resnet-keras serve runs/resnet50-photos-finetune

    Args:
        export: run folder that was exported, or an export folder.
        port: port of the address http://localhost:PORT.
    """
    from resnet_keras.export import serving

    folder = export or latest_run()
    serving.serve(folder / "export" if (folder / "run.json").exists() else folder, port)
