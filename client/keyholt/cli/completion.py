"""The command ``completion``: prints the script that a shell reads."""

from __future__ import annotations

from argparse import Namespace
from typing import Final

from keyholt.cli.command import Command, Parameter
from keyholt.cli.descriptors import STDOUT, write_all

__all__ = ["COMMANDS"]


def completion(options: Namespace) -> int:
    """The command ``completion``."""
    # The scripts are made from the table of all commands, and this one is in it.
    from keyholt.cli.shells import bash, fish, zsh

    scripts = {"bash": bash.script, "zsh": zsh.script, "fish": fish.script}
    write_all(STDOUT, scripts[options.shell]().encode())
    return 0


COMMANDS: Final = (
    Command(
        words=("completion",),
        help="Prints the completion script of a shell.",
        run=completion,
        json="the script as it is",
        parameters=(Parameter(names=("SHELL",), help="bash, zsh or fish", choices=("bash", "zsh", "fish")),),
    ),
)
