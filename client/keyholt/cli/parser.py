"""The table of commands as an ``argparse`` parser.

- A mistake in the usage is ``UsageError`` with the sentence to print, so that it can come out as JSON too.
- Words are not abbreviated: a script that does would break when the next option comes.
"""

from __future__ import annotations

import argparse
import difflib
import functools
from collections.abc import Sequence
from typing import Any, Final, NoReturn

from keyholt.cli.command import Command, Kind, Parameter
from keyholt.cli.errors import UsageError
from keyholt.cli.output import say
from keyholt.cli.table import COMMANDS, EPILOG, GLOBAL, GROUPS
from keyholt.cli.version import client_version

__all__ = ["parse"]

_COMMAND: Final = "COMMAND"


_MEANT: Final[dict[str, tuple[str, ...]]] = {
    **dict.fromkeys(("delete", "remove", "del", "rm"), ("rm", "remove")),
    **dict.fromkeys(("set", "add", "write", "store", "create", "new"), ("put", "add")),
    **dict.fromkeys(("read", "show", "cat", "fetch"), ("get",)),
    **dict.fromkeys(("ls", "find"), ("list",)),
    **dict.fromkeys(("log", "versions"), ("history",)),
    **dict.fromkeys(("restore", "recover"), ("undelete",)),
    **dict.fromkeys(("exec", "env"), ("run",)),
}
"""What other programs call a command, and which of ours may be meant: the letters alone lead elsewhere, from
``delete`` to ``undelete``."""


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The parameters by name, with ``command``: the ``Command`` that was called.

    Raises:
        UsageError: the words are none of the table's commands.
        SystemExit: help or the version was asked for, and printed.
    """
    return _parser().parse_args(words)


class _Parser(argparse.ArgumentParser):
    """Raises instead of printing and exiting."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see `{self.prog} --help`")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        names = [str(choice) for choice in action.choices]
        if action.metavar != _COMMAND:
            raise UsageError(f"{action.metavar} is one of {', '.join(names)}, not {value!r}")
        near = [name for name in _MEANT.get(value, ()) if name in names]
        near = near or difflib.get_close_matches(str(value), names, 1)
        hint = f"did you mean {near[0]!r}? See" if near else "see"
        raise UsageError(f"there is no command {value!r}; {hint} `{self.prog} --help`")


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        say(f"keyholt {client_version()}")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    top = _Parser(
        prog="keyholt",
        description="Secrets from the agent on this machine.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    top.set_defaults(address=None, timeout=None, json=False)
    _add_global(top)
    commands = _subcommands(top)
    groups: dict[str, Any] = {}
    for command in COMMANDS:
        *group, word = command.words
        parent = commands
        if group:
            if group[0] not in groups:  # it stands in the help where its first member stands in the table
                text = GROUPS[group[0]]
                groups[group[0]] = _subcommands(commands.add_parser(group[0], help=text, description=text))
            parent = groups[group[0]]
        epilog = command.json and f"With --json it prints {command.json}."
        _fill(parent.add_parser(word, help=command.help, description=command.help, epilog=epilog), command)
    return top


def _subcommands(parser: argparse.ArgumentParser) -> Any:
    return parser.add_subparsers(metavar=_COMMAND, required=True, parser_class=_Parser)


def _fill(parser: argparse.ArgumentParser, command: Command) -> None:
    parser.set_defaults(command=command)
    for parameter in command.parameters:
        _add(parser, parameter)
        if parameter.kind is Kind.COMMAND:
            parser.usage = f"{parser.prog} [OPTION]... -- CMD [ARGUMENT]..."
    _add_global(parser)


def _add_global(parser: argparse.ArgumentParser) -> None:
    for parameter in GLOBAL:
        # Suppressed: an option given before the command is not undone by its default after it.
        _add(parser, parameter, default=argparse.SUPPRESS)


def _add(parser: argparse.ArgumentParser, parameter: Parameter, **extra: Any) -> None:
    options: dict[str, Any] = {"help": parameter.help.replace("%", "%%"), **extra}
    if parameter.kind is Kind.FLAG:
        options["action"] = "store_true"
    elif parameter.kind is Kind.COMMAND:
        options["nargs"] = argparse.REMAINDER
    elif parameter.kind is Kind.NUMBER:
        options["type"] = functools.partial(_number, *parameter.bounds)
    if parameter.choices:
        options["choices"] = parameter.choices
    if parameter.many:
        options.update(action="append", default=[])
    if parameter.required:
        options["required"] = True
    if parameter.optional:
        options.update(nargs="?", default="")
    if parameter.kind is not Kind.FLAG:
        options["metavar"] = parameter.metavar if parameter.is_option else parameter.names[0]
    names = parameter.names if parameter.is_option else (parameter.names[0].lower(),)
    parser.add_argument(*names, **options)


def _number(least: int, most: int, text: str) -> int:
    digits = text.isascii() and text.isdigit() and len(text) <= len(str(most))
    if not digits or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"it must be a whole number from {least} to {most}")
    return int(text)
