"""resnet-keras list: the networks and what they cost."""

import tyro
from rich.console import Console

from resnet_keras import architectures
from resnet_keras.cli import console
from resnet_keras.errors import InputError, nearest


def list_networks(pattern: tyro.conf.Positional[str] = "*") -> None:
    """List the networks with their parameters and multiply-adds.

    Args:
        pattern: show only the names that match, such as "*50*".
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
