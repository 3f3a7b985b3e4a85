"""resnet-keras reproduce: tables and figures of the papers."""

from pathlib import Path
from typing import Annotated

import tyro

from resnet_keras import studies
from resnet_keras.cli import console
from resnet_keras.cli.backend import quiet_tensorflow
from resnet_keras.errors import check_arguments
from resnet_keras.studies.study import Scale


@check_arguments
def reproduce(
    study: tyro.conf.Positional[
        Annotated[str, tyro.conf.arg(metavar="STUDY", help=f"{', '.join(studies.STUDIES)}.")]
    ],
    data: str = "digits",
    scale: Scale = "quick",
    seeds: Annotated[
        int | None,
        studies.SEEDS,
        tyro.conf.arg(metavar="INT", help_behavior_hint="(default: the study's)"),
    ] = None,
    output: Annotated[
        Path | None,
        tyro.conf.arg(metavar="FOLDER", help_behavior_hint="(default: runs/studies/DATA-SCALE)"),
    ] = None,
) -> None:
    """Repeat a table or figure of the papers.

    The command trains the networks and writes a page. The same command resumes a study that was
    stopped. Studies of one folder share trained networks.

    Example: resnet-keras reproduce depth --data fashion-mnist

    Args:
        data: labelled images, as for train.
        scale: quick takes minutes, half an hour on fashion-mnist; full does what the papers did.
        seeds: number of times that each network is trained.
        output: folder of runs and pages.
    """
    from resnet_keras.data import sources

    studies.check(study)
    sources.find(data)
    with quiet_tensorflow():
        from resnet_keras.studies import running

        studies.find(study)  # its module, which may load TensorFlow

    page = running.reproduce(study, data, scale, seeds, output, "auto") / "index.html"
    print(f"\npage of the study: {page}\n")
    console.print_next(page)
