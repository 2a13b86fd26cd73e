"""The command ``help``: what `--help` says, for who asks in this way."""

from __future__ import annotations

from argparse import Namespace
from typing import Final

from keyholt.cli.command import Command, Kind, Parameter

__all__ = ["COMMANDS"]


def show_help(options: Namespace) -> int:
    """The command ``help``; ends by ``SystemExit``, as `--help` does."""
    # The parser is made from the table of all commands, and this one is in it.
    from keyholt.cli.parser import parse

    parse([*options.word, "--help"])
    return 0


COMMANDS: Final = (
    Command(
        words=("help",),
        help="Says what there is, or how a command is used.",
        run=show_help,
        json="the same text",
        parameters=(
            Parameter(
                names=("WORD",),
                help="the command's words (default: all commands)",
                kind=Kind.TOPIC,
                optional=True,
                many=True,
            ),
        ),
    ),
)
