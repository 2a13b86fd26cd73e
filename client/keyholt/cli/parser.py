"""The table of commands as an ``argparse`` parser.

- A mistake in the usage is ``UsageError`` with the sentence to print, so that it can come out as JSON too.
- Words are not abbreviated: a script that does would break when the next option comes.
- No word that was given is repeated: it may be a secret in the wrong place, and what is printed ends up in
  logs.
"""

from __future__ import annotations

import argparse
import difflib
import functools
import sys
from collections.abc import Sequence
from typing import Any, Final, NoReturn, cast

from keyholt.cli.command import Command, Kind, Parameter
from keyholt.cli.errors import UsageError
from keyholt.cli.help_pages import page
from keyholt.cli.other_words import suggestion
from keyholt.cli.output import say
from keyholt.cli.table import COMMANDS, EPILOG, GLOBAL, GROUPS
from keyholt.cli.version import client_version

__all__ = ["parse"]

_COMMAND: Final = "COMMAND"

WIDTH: Final = 80
"""Columns of the help."""


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The parameters by name, with ``command``: the ``Command`` that was called.

    Raises:
        UsageError: the words are none of the table's commands.
        SystemExit: help or the version was asked for, and printed.
    """
    if not words or (len(words) == 1 and words[0] in GROUPS):
        words = [*words, "--help"]
    options, stray = _parser().parse_known_args(words)
    if stray:
        raise _stray(options.command, stray[0])
    return options


def _stray(command: Command, word: str) -> UsageError:
    """What to say of a word that a command does not take: how it is done, and never the word."""
    called = " ".join(("keyholt", *command.words))
    said = f"`{called}` takes no such argument"
    if word.startswith("-"):
        said = f"`{called}` has no such option"
        options = [name for one in (*command.parameters, *GLOBAL) for name in one.names if one.is_option]
        bare = {name.lstrip("-"): name for name in options}
        near = difflib.get_close_matches(word.partition("=")[0].lstrip("-"), bare, 1)
        said += f" (did you mean {bare[near[0]]}?)" if near else ""
    way = f"; {command.secret}" if command.secret else ""
    return UsageError(f"{said}{way}; see `{called} --help`")


def help_pages() -> dict[str, str]:
    """What the help of everything says, by how it is called; ``help_pages`` has it."""
    pages: dict[str, str] = {}
    parsers: list[argparse.ArgumentParser] = [_parser()]
    for parser in parsers:
        pages[parser.prog] = parser.format_help()
        for action in parser._actions:  # noqa: SLF001 (there is no other way to ask)
            if isinstance(commands := cast("object", action.choices), dict):
                parsers += cast("dict[str, argparse.ArgumentParser]", commands).values()
    return pages


class _Parser(argparse.ArgumentParser):
    """Raises instead of printing and exiting, and repeats no word that was given."""

    def __init__(self, **options: Any) -> None:
        formatter = options.pop("formatter_class", argparse.HelpFormatter)
        # The same on every terminal: it is printed as it was made, which takes a tenth of the time.
        fixed = functools.partial(formatter, width=WIDTH)
        super().__init__(allow_abbrev=False, formatter_class=fixed, **options)

    def print_help(self, file: Any = None) -> None:
        del file
        text = page(self.prog.split()[1:])
        sys.stdout.write(self.format_help() if text is None else text)

    def error(self, message: str) -> NoReturn:
        option, explicit, _ = message.partition(": ignored explicit argument")
        if explicit:  # what follows is what was given: `--json=...`
            message = f"{option}: it takes nothing after it"
        raise UsageError(f"{message}; see `{self.prog} --help`")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        names = [str(choice) for choice in action.choices]
        if action.metavar != _COMMAND:
            raise UsageError(f"{action.metavar} is one of {', '.join(names)}; see `{self.prog} --help`")
        raise UsageError(f"there is no such command; {suggestion(str(value), names)} `{self.prog} --help`")


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
    if parameter.optional:
        options.update(nargs="*" if parameter.many else "?", default="")
    elif parameter.many:
        options.update(action="append", default=[])
    if parameter.default is not None:
        options["default"] = parameter.default
    if parameter.required:
        options["required"] = True
    if parameter.kind is not Kind.FLAG:
        options["metavar"] = parameter.metavar if parameter.is_option else parameter.names[0]
    names = parameter.names if parameter.is_option else (parameter.names[0].lower(),)
    parser.add_argument(*names, **options)


def _number(least: int, most: int, text: str) -> int:
    digits = text.isascii() and text.isdigit() and len(text) <= len(str(most))
    if not digits or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"it must be a whole number from {least} to {most}")
    return int(text)
