"""What a command of ``keyholt`` is: words, parameters and sentences, from which all about it is made.

- A command stands beside the function that carries it out, in the module of its domain; ``table`` has all.
- One that is one operation of the registry has that operation's sentence as its help.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from keyholt.address import MAX_DESCRIPTOR

__all__ = ["PASSPHRASE_WAY", "WEAK", "Command", "Kind", "Parameter", "passphrase_parameters"]


class Kind(Enum):
    """What a parameter takes, for the parser and for completion."""

    FLAG = "nothing"
    TEXT = "text"
    NUMBER = "a number"
    FILE = "a file"
    SECRET = "the path of a secret"
    COMMAND = "a command and its arguments"
    TOPIC = "the words of a command of ours"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """An option, if its names begin with ``-``, or else a positional argument.

    Attributes:
        names: short name first; a positional has one, in capitals.
        kind: what it takes.
        bounds: of a number, the least and the greatest that it may be.
        metavar: how the help calls what it takes.
        choices: the only words that it takes, where there are few.
        optional: a positional may be left out; every option may.
        default: of a number that has one, where it is not given.
        many: it may be given several times.
    """

    names: tuple[str, ...]
    help: str
    kind: Kind = Kind.TEXT
    bounds: tuple[int, int] = (0, 0)
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    optional: bool = False
    required: bool = False
    default: int | None = None
    many: bool = False

    @property
    def is_option(self) -> bool:
        return self.names[0].startswith("-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command.

    Attributes:
        words: one or two, as typed.
        help: what it does, in a sentence or two.
        run: carries it out, given the parameters by name; its result is the exit status.
        json: what it prints with ``--json``: a shape that stays as it is.
        parameters: its own, in the order of the help.
        secret: how a secret is given to it, for whoever writes one on the command line.
    """

    words: tuple[str, ...]
    help: str
    run: Callable[[Namespace], int]
    json: str
    parameters: tuple[Parameter, ...] = ()
    secret: str | None = None


PASSPHRASE_WAY: Final = "give a passphrase by --passphrase-fd, --passphrase-file or when asked"
"""How the commands that need a passphrase are given it."""


def passphrase_parameters(what: str = "the passphrase", prefix: str = "") -> tuple[Parameter, ...]:
    """The options by which a passphrase is given, as ``keyholt.cli.passphrase`` reads them."""
    return (
        Parameter(
            names=(f"--{prefix}passphrase-fd",),
            help=f"read {what} from this file descriptor (default: ask on the terminal)",
            kind=Kind.NUMBER,
            bounds=(0, MAX_DESCRIPTOR),
            metavar="N",
        ),
        Parameter(
            names=(f"--{prefix}passphrase-file",),
            help=f"read {what} from this file (default: ask on the terminal)",
            kind=Kind.FILE,
            metavar="FILE",
        ),
    )


WEAK: Final = Parameter(
    names=("--weak",),
    help="take a new passphrase of less than 8 characters, or of one character again and again, too",
    kind=Kind.FLAG,
)
"""Beside the options for a new passphrase."""
