"""Parses the arguments of the command line with tyro, and refuses bad ones in one line.

tyro would print a box of five lines and more. Its hook for errors is a private module, which may
change in any release: pyproject.toml asks for the release that this module was written for.
"""

import inspect
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from functools import partial
from itertools import islice, takewhile
from typing import Annotated, Any, Union, get_type_hints, is_typeddict

import tyro
from tyro import _errors as failures

from resnet_keras.errors import InputError, nearest
from resnet_keras.version import VERSION

PROGRAM = "resnet-keras"
KINDS = {  # by metavar
    "INT": "a whole number",
    "INT ...": "whole numbers",
    "INT|none": "a whole number or none",
    "FLOAT": "a number",
    "FLOAT FLOAT": "two numbers",
    "FLOAT ...": "numbers",
    "FLOAT|none": "a number or none",
}
TYRO_OPTIONS = ("--tyro-print-completion", "--tyro-write-completion")
CONFIG = (tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone)
HELP = {"-h", "--help"}
HELP_ALL = "--help-all"  # shows the hidden options, too
FLAG = tyro.conf.arg(help_behavior_hint="")
"""Of options that take no value and whose help says all."""
HIDDEN = "hidden"
"""Marks arguments, in `Annotated`, whose options --help leaves out."""
SHELLS = ("bash", "zsh", "tcsh", "fish")


def dispatch(
    arguments: Sequence[str],
    commands: Mapping[str, Callable[..., None]],
    summary_of: Callable[[str], str] | None = None,
) -> None:
    """Parses arguments and calls the function of the command that they name, or tells the version.

    Args:
        arguments: of the program.
        commands: their functions by their names.
        summary_of: tells a command's first line of help by its name, where that is quicker than
            asking the function.

    Raises:
        InputError: the arguments cannot be parsed.
        SystemExit: help was asked for.
    """
    arguments = list(arguments)
    if arguments[:1] == ["launch"] and "train" in arguments:
        at = arguments.index("train")
        arguments = [*arguments[:at], "--", *arguments[at:]]  # its options are not launch's
    if arguments == ["--version"]:
        print(VERSION)
        return
    _check_completion(arguments)
    if "" in arguments:  # as of a variable of the shell that is not set
        raise InputError(
            "an argument is empty", received=_shown(arguments), accepted="arguments with a text"
        )
    name = arguments[0] if arguments else ""
    with failures.on_parse_error(partial(_refuse, arguments, commands)):
        if name in commands:  # the only one to be imported
            command = commands[name]
            own = list(takewhile(lambda one: one != "--", arguments))
            if HELP_ALL in own:
                arguments = [name, "--help"]
            elif not HELP.isdisjoint(own):
                command = _without_hidden(command)
            tyro.cli(command, prog=f"{PROGRAM} {name}", args=arguments[1:], config=CONFIG)
            return
        tyro.cli(
            _any_of(commands, summary_of, in_full=name.replace("_", "-") in TYRO_OPTIONS),
            prog=PROGRAM,
            description="ResNets in Keras: built, trained, evaluated and reported. "
            "--version prints the version. With any command, --download fetches a public dataset "
            "that is missing.",
            args=arguments,
            config=CONFIG,
        )


def _any_of(
    commands: Mapping[str, Callable[..., None]],
    summary_of: Callable[[str], str] | None,
    in_full: bool,
) -> Any:
    """The commands as tyro's subcommands, each with a line of help; in full with their options."""

    def nothing() -> None: ...

    members = []
    for name in commands:
        summary = summary_of(name) if summary_of else (commands[name].__doc__ or "").split("\n")[0]
        command = commands[name] if in_full else nothing
        told = tyro.conf.subcommand(name, constructor=command, description=summary)
        members.append(Annotated[Any, told])
    return Union[tuple(members)]  # noqa: UP007 - its members are known only now


def _check_completion(arguments: Sequence[str]) -> None:
    """Refuses shells that tyro, which completes commands by options of its own, does not know."""
    option, *rest = arguments or [""]
    if option.replace("_", "-") in TYRO_OPTIONS and rest[:1] and rest[0] not in SHELLS:
        raise InputError("unknown shell", received=repr(rest[0]), accepted=", ".join(SHELLS))


def _refuse(
    arguments: Sequence[str],
    commands: Mapping[str, Callable[..., None]],
    event: failures.ParseErrorEvent,
) -> None:
    """Raises InputError for what tyro cannot parse; tyro calls it."""
    command = arguments[0] if arguments and arguments[0] in commands else None
    help_text = f"what `{' '.join([PROGRAM, *([command] if command else [])])} --help` shows"
    match event:
        case (
            failures.UnrecognizedArgs(tokens=[token, *_])
            | failures.MissingArgs(unrecognized_tokens=[token, *_])
        ):
            raise _unknown(token, command, commands, help_text)
        case failures.MissingSubcommand():
            raise InputError("no command", received="none", accepted=", ".join(commands))
        case failures.MissingArgs(missing_arguments=missing):
            raise _missing([one.arg for one in missing], arguments)
        case failures.BadValue(argument=argument) if argument.is_positional():
            known = ["--help", *options_of(commands[arguments[0]], with_hidden=True)]
            options = [one.partition("=")[0].replace("_", "-") for one in arguments]
            for option, token in zip(options, arguments, strict=True):
                if option.startswith("--") and option not in known:  # hence it took no value
                    raise _unknown(token, command, commands, help_text)
            raise _missing([argument], arguments)
        case _:
            raise _bad_value(event, arguments) or InputError(
                "these arguments do not go together",
                received=_shown(arguments),
                accepted=help_text,
            )


def _bad_value(event: failures.ParseErrorEvent, arguments: Sequence[str]) -> InputError | None:
    """The error of an option's value; None if the event is of another kind."""
    argument = getattr(event, "argument", None)
    if argument is None:
        return None
    called = _called(argument)
    match event:
        case failures.InvalidChoice(value=value, choices=choices):
            return InputError(
                f"{called} has an unknown value",
                received=repr(value),
                accepted=nearest(value, choices),
            )
        case failures.BadValue(offending_value=None):
            return InputError(
                f"{called} needs a value",
                received="none",
                accepted=_called(argument, with_value=True),
            )
        case failures.BadValue(offending_value=value):
            return InputError(
                f"{called} takes no value", received=repr(value), accepted=f"{called} by itself"
            )
        case failures.InstantiationFailure():
            metavar = str(argument.lowered.metavar).removesuffix(" *")
            return InputError(
                f"{called} has a value that cannot be read",
                received=_values_of(argument, arguments) or "none",
                accepted=KINDS.get(metavar, metavar),
            )
    return None


def _missing(missing: Sequence[Any], arguments: Sequence[str]) -> InputError:
    return InputError(
        f"{arguments[0]} needs more arguments",
        received=_shown(arguments),
        accepted=" and ".join(_called(one, with_value=True) for one in missing),
    )


def _unknown(
    token: str,
    command: str | None,
    commands: Mapping[str, Callable[..., None]],
    help_text: str,
) -> InputError:
    if command is None:
        what = "option" if token.startswith("-") else "command"
        accepted = nearest(token, list(commands))
        return InputError(f"unknown {what}", received=repr(token), accepted=accepted)
    if not token.startswith("-"):
        return InputError(
            f"{command} takes no further argument", received=repr(token), accepted=help_text
        )
    option = token.partition("=")[0].replace("_", "-")
    options = [*options_of(commands[command], with_hidden=True), "--help", HELP_ALL]
    known = [one for one in options if ("." in one) == ("." in option)]
    likeness = 0.8 if "." in option else 0.6
    meant = [one for one in known if _initials(one) == option.strip("-")]  # of --lr, say
    return InputError(
        f"unknown option of {command}",
        received=repr(token),
        accepted=nearest(meant[0] if meant else option, meant or known, likeness),
    )


def _initials(option: str) -> str:
    return "".join(word[0] for word in option.strip("-").split("-"))


def options_of(command: Callable[..., None], with_hidden: bool = False) -> list[str]:
    """The options of a command, such as --batch-size, in the order of its arguments.

    Args:
        command: the command's function.
        with_hidden: whether to include options that --help leaves out.
    """
    defaults = {
        name: parameter.default for name, parameter in inspect.signature(command).parameters.items()
    }
    hints = get_type_hints(command, include_extras=True)
    return list(_options_in({name: hints[name] for name in defaults}, defaults, "", with_hidden))


def _options_in(
    hints: Mapping[str, Any], defaults: Mapping[str, Any], prefix: str, with_hidden: bool
) -> Iterator[str]:
    for name, hint in hints.items():
        told = getattr(hint, "__metadata__", ())
        kind = getattr(hint, "__origin__", hint)
        if tyro.conf.Positional in told or (HIDDEN in told and not with_hidden):
            continue
        named = [one.name for one in told if getattr(one, "name", None)]
        option = prefix + (named[0] if named else name.replace("_", "-"))
        if is_dataclass(kind) or is_typeddict(kind):
            inner = prefix if tyro.conf.OmitArgPrefixes in told else f"{option}."
            parts = get_type_hints(kind, include_extras=True)
            yield from _options_in(parts, vars(kind), inner, with_hidden)
            continue
        yield f"--no-{option}" if defaults.get(name) is True else f"--{option}"
        yield from (alias for one in told for alias in getattr(one, "aliases", None) or ())


def _without_hidden(command: Callable[..., None]) -> Callable[..., None]:
    """The command without its hidden options, which its help then leaves out."""
    hints = get_type_hints(command, include_extras=True)
    signature = inspect.signature(command)
    kept = [
        parameter
        for name, parameter in signature.parameters.items()
        if HIDDEN not in getattr(hints[name], "__metadata__", ())
    ]

    def shown(*arguments: Any, **options: Any) -> None:
        command(*arguments, **options)

    shown.__doc__ = command.__doc__
    shown.__annotations__ = {one.name: hints[one.name] for one in kept}
    shown.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]
    return shown


def _called(argument: Any, with_value: bool = False) -> str:
    """What messages call one of tyro's arguments: its longest option, or what it stands for."""
    lowered = argument.lowered
    if argument.is_positional():
        return lowered.metavar
    option = max(lowered.name_or_flags, key=len)
    return f"{option} {lowered.metavar}" if with_value else option


def _values_of(argument: Any, arguments: Sequence[str]) -> str:
    """What was given for an option, last, as it was typed; nothing if it does not stand there."""
    for at in reversed(range(len(arguments))):
        option, equals, value = arguments[at].partition("=")
        if option.replace("_", "-") in argument.lowered.name_or_flags:
            values = takewhile(lambda one: not one.startswith("--"), arguments[at + 1 :])
            at_most = argument.lowered.nargs if isinstance(argument.lowered.nargs, int) else None
            return " ".join(map(repr, [value] if equals else islice(values, at_most)))
    return ""


def _shown(arguments: Sequence[str]) -> str:
    return shlex.join(arguments) or "none"
