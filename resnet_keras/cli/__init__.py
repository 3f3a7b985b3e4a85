"""The command line: `resnet-keras COMMAND` turns arguments into calls; a command is a module.

Whatever needs TensorFlow is imported inside the commands, so that `--help` and `list` answer at
once.
"""

import ast
import errno
import io
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from importlib.resources import files

from resnet_keras.cli.arguments import dispatch
from resnet_keras.cli.backend import BACKENDS, quiet_tensorflow
from resnet_keras.cli.console import Output, confirm
from resnet_keras.errors import (
    ExportError,
    InputError,
    Interrupted,
    NotDownloadedError,
    TrainingError,
)
from resnet_keras.training.launch import LOST, is_supervised, supervise

DOWNLOAD = "--download"  # goes with every command that reads a dataset
NO_PATHS = (errno.ENAMETOOLONG, errno.ELOOP)


class Commands(Mapping[str, Callable[..., None]]):
    """The function of each command by the command's name; its module is imported on first use."""

    def __init__(self, functions: Mapping[str, str]) -> None:
        """Takes names of commands and of their functions; the modules have the functions' names."""
        self._functions = functions

    def __getitem__(self, name: str) -> Callable[..., None]:
        function = self._functions[name]
        return getattr(import_module(f"{__name__}.{function}"), function)

    def __iter__(self) -> Iterator[str]:
        return iter(self._functions)

    def summary(self, name: str) -> str:
        """The first line of the docstring of a command, without an import of its module."""
        function = self._functions[name]
        source = files(__name__).joinpath(f"{function}.py").read_text("utf-8")
        (found,) = (
            node
            for node in ast.parse(source).body
            if isinstance(node, ast.FunctionDef) and node.name == function
        )
        return (ast.get_docstring(found) or "").splitlines()[0]

    def __len__(self) -> int:
        return len(self._functions)


COMMANDS = Commands(
    {
        "list": "list_networks",
        "recipe": "recipe",
        "train": "train",
        "launch": "launch",
        "evaluate": "evaluate",
        "predict": "predict",
        "reproduce": "reproduce",
        "convert": "convert",
        "export": "export",
        "serve": "serve",
    }
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command; bad input ends with one line on stderr and exit status 2."""
    if arguments is None:  # as a program of its own
        if isinstance(sys.stdout, io.TextIOWrapper):  # of whatever encoding; stderr does so anyway
            sys.stdout.reconfigure(errors="backslashreplace")
        sys.stdout = Output(sys.stdout)
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not is_supervised():
        if arguments[:1] == ["train"] and any(one.startswith("--hosts") for one in arguments):
            raise SystemExit(supervise([arguments]))
        _run(arguments)
        return
    status = 1
    try:
        _run(arguments)
        status = 0
    except SystemExit as end:
        status = end.code
    except Exception as error:
        if _tells_of_a_lost_process(error):
            status = LOST
        else:
            traceback.print_exc()
    finally:
        # JAX's way out waits for the other processes, which wait for this one.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status if isinstance(status, int) else 1)


def _dispatch(arguments: list[str]) -> None:
    """Runs a command; a public dataset that is missing is downloaded first if the user agrees."""
    agreed = DOWNLOAD in arguments
    arguments = [one for one in arguments if one != DOWNLOAD]
    try:
        dispatch(arguments, COMMANDS, COMMANDS.summary)
    except NotDownloadedError as error:
        if not (agreed or confirm(f"{error.received}.\nDownload it now?")):
            raise
        with quiet_tensorflow():
            import keras  # noqa: F401 - downloads need it, or start it themselves
        error.download()
        dispatch(arguments, COMMANDS, COMMANDS.summary)


def _run(arguments: list[str]) -> None:
    try:
        _dispatch(arguments)
    except InputError as error:
        print(f"resnet-keras: error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:  # a full disk, say
        told, status = str(error), 1
        if error.errno in NO_PATHS:
            received = f"{error.filename} ({error.strerror})"
            accepted = "a path that this file system can have"
            told = str(InputError("this is no path", received=received, accepted=accepted))
            status = 2
        print(f"resnet-keras: error: {told}", file=sys.stderr)
        raise SystemExit(status) from None
    except ModuleNotFoundError as error:
        if error.name not in BACKENDS:
            raise
        print(
            f"resnet-keras: error: Keras is set to compute with {error.name}, which is not "
            f"installed. Install it, or set KERAS_BACKEND; accepted: {', '.join(BACKENDS)}",
            file=sys.stderr,
        )
        raise SystemExit(2) from None
    except (TrainingError, ExportError) as error:
        print(f"resnet-keras: error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except Interrupted as interruption:
        print(f"resnet-keras: {interruption}", file=sys.stderr)
        raise SystemExit(128 + interruption.signal) from None
    except KeyboardInterrupt:
        print("resnet-keras: interrupted; earlier files are unchanged", file=sys.stderr)
        raise SystemExit(130) from None


def _tells_of_a_lost_process(error: Exception) -> bool:
    """Whether JAX failed in a collective, or in talking to the process where all meet.

    JAX raises ValueError where an array of all processes was just made.
    """
    return (
        type(error).__name__ in ("JaxRuntimeError", "ValueError")
        and re.search(
            "gloo|nccl|UNAVAILABLE|DEADLINE_EXCEEDED|coordination", str(error), re.IGNORECASE
        )
        is not None
    )
