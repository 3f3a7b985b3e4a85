"""resnet-keras launch: training with several processes of this machine."""

from typing import Annotated

import tyro

from resnet_keras.errors import check_arguments
from resnet_keras.training.launch import PROCESSES
from resnet_keras.training.launch import launch as start_processes


@check_arguments
def launch(
    command: tyro.conf.Positional[
        Annotated[tuple[str, ...], tyro.conf.arg(metavar="train ...", help_behavior_hint="")]
    ],
    processes: Annotated[
        int, PROCESSES, tyro.conf.arg(name="n", aliases=("-n",), metavar="INT")
    ] = 2,
) -> None:
    """Train with several processes of this machine, on JAX.

    Ctrl-C and SIGTERM reach all processes. When one process fails, the others are stopped.

    Example: resnet-keras launch -n 2 train resnet50

    Args:
        command: train, with its arguments.
        processes: number of processes.
    """
    raise SystemExit(start_processes(processes, command))
