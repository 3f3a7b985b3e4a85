"""Writes reference/command-line.md of the site from the parser: a hook of MkDocs (mkdocs.yml)."""

import contextlib
import io
import os
from typing import TYPE_CHECKING
from unittest import mock

from resnet_keras import cli
from resnet_keras.cli.arguments import PROGRAM, dispatch

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

PAGE = "reference/command-line.md"
COLUMNS = "100"
HEAD = f"""# Command line

`{PROGRAM} COMMAND --help` prints the help of a command. `--help-all` also prints the options that
are needed less often; this page shows all of them.
`make help` lists the targets of the Makefile, which call these commands.
"""


def page() -> str:
    """The help of the program and of every command, as Markdown."""
    helps = {PROGRAM: _help([])} | {name: _help([name]) for name in cli.COMMANDS}
    sections = (f"## {name}\n\n```\n{text.strip()}\n```\n" for name, text in helps.items())
    return "\n".join([HEAD, *sections])


def _help(arguments: list[str]) -> str:
    """What the program prints for --help-all, without colours, in lines of one width."""
    printed = io.StringIO()
    plain = {"COLUMNS": COLUMNS, "NO_COLOR": "1", "TERM": "dumb"}
    with (
        mock.patch.dict(os.environ, plain),
        contextlib.redirect_stdout(printed),
        contextlib.suppress(SystemExit),
    ):
        option = "--help-all" if arguments else "--help"
        dispatch([*arguments, option], cli.COMMANDS, cli.COMMANDS.summary)
    return "\n".join(line.rstrip() for line in printed.getvalue().splitlines())


def on_files(files: "Files", config: "MkDocsConfig") -> "Files":
    """Adds the page to the files of the site; MkDocs calls it."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, PAGE, content=page()))
    return files
