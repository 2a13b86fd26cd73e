"""The table of commands as an ``argparse`` parser.

A mistake in the usage is ``UsageError`` with the sentence to print, so that it can come out as JSON too.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, NoReturn

from keyholt.cli.table import COMMANDS, GLOBAL, GROUPS, Command, Kind, Parameter

__all__ = ["SHELLS", "UsageError", "client_version", "parse"]

SHELLS: Final = ("bash", "zsh", "fish")


class UsageError(Exception):
    """The command line cannot be understood; the message says why and names the help."""


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The parameters by name, with ``command``: the ``Command`` that was called.

    Raises:
        UsageError: the words are none of the table's commands.
        SystemExit: help or the version was asked for, and printed.
    """
    return _parser().parse_args(words)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see `{self.prog} --help`")


def _parser() -> argparse.ArgumentParser:
    top = _Parser(prog="keyholt", description="Secrets from the agent on this machine.", allow_abbrev=False)
    top.add_argument("--version", action="version", version=f"keyholt {client_version()}")
    top.set_defaults(address=None, json=False)
    _add_global(top)
    commands = _subcommands(top)
    groups = {
        word: _subcommands(commands.add_parser(word, help=text, description=text, allow_abbrev=False))
        for word, text in GROUPS.items()
    }
    for command in COMMANDS:
        *group, word = command.words
        parent = groups[group[0]] if group else commands
        parser = parent.add_parser(word, help=command.help, description=command.help, allow_abbrev=False)
        _fill(parser, command)
    return top


def _subcommands(parser: argparse.ArgumentParser) -> Any:
    return parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)


def _fill(parser: argparse.ArgumentParser, command: Command) -> None:
    parser.set_defaults(command=command)
    for parameter in command.parameters:
        _add(parser, parameter)
    if not any(parameter.kind is Kind.COMMAND for parameter in command.parameters):
        _add_global(parser)


def _add_global(parser: argparse.ArgumentParser) -> None:
    for (
        parameter
    ) in GLOBAL:  # suppressed: an option given before the command is not undone by its default after
        _add(parser, parameter, default=argparse.SUPPRESS)


def _add(parser: argparse.ArgumentParser, parameter: Parameter, **extra: Any) -> None:
    options: dict[str, Any] = {"help": parameter.help.replace("%", "%%"), **extra}
    if parameter.kind is Kind.FLAG:
        options["action"] = "store_true"
    elif parameter.kind is Kind.COMMAND:
        options["nargs"] = argparse.REMAINDER
    elif parameter.kind is Kind.NUMBER:
        options["type"] = _number
    elif parameter.kind is Kind.SHELL:
        options["choices"] = SHELLS
    if parameter.is_option and parameter.metavar:
        options["metavar"] = parameter.metavar
    if parameter.many:
        options.update(action="append", default=[])
    if parameter.required:
        options["required"] = True
    if parameter.optional:
        options.update(nargs="?", default="")
    if not parameter.is_option:
        options["metavar"] = parameter.names[0]
    names = parameter.names if parameter.is_option else (parameter.names[0].lower(),)
    parser.add_argument(*names, **options)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 10):  # noqa: PLR2004  # no version is longer
        raise argparse.ArgumentTypeError("it must be a whole number")
    return int(text)


def client_version() -> str:
    """The version of this installation."""
    try:
        return version("keyholt")
    except PackageNotFoundError:  # run from its sources
        return "of the source tree"
