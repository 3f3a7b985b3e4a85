"""resnet-keras list: the networks and what they cost."""

from typing import Annotated

import tyro
from rich.console import Console

from resnet_keras import architectures
from resnet_keras.cli import console
from resnet_keras.errors import InputError, nearest

GROUPS = ", ".join(group.title.split(" (")[0] for group in architectures.FAMILY)


def list_networks(
    pattern: tyro.conf.Positional[
        Annotated[
            str,
            tyro.conf.arg(
                metavar="PATTERN",
                help=f'names to list, such as "*50*". The groups are: {GROUPS}.',
                help_behavior_hint="(default: all)",
            ),
        ]
    ] = "*",
) -> None:
    """List the networks, their parameters and multiply-adds.

    Example: resnet-keras list "*50*"
    """
    names = architectures.list_models(pattern)
    if not names:
        everything = list(architectures.NETWORKS)
        raise InputError(
            "no network matches",
            received=repr(pattern),
            accepted=nearest(pattern.strip("*"), everything),
        )
    terminal = Console()
    for group in architectures.FAMILY:
        shown = {name: network for name, network in group.networks.items() if name in names}
        if shown:
            terminal.print(f"[bold]{group.title}[/bold]\n{group.purpose}")
            terminal.print(console.networks(shown))
