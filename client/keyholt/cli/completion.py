"""The command ``completion``: prints the script that a shell reads."""

from __future__ import annotations

from argparse import Namespace

from keyholt.cli.descriptors import STDOUT, write_all
from keyholt.cli.shells import bash, fish, zsh

__all__ = ["completion"]


def completion(options: Namespace) -> int:
    """The command ``completion``."""
    scripts = {"bash": bash.script, "zsh": zsh.script, "fish": fish.script}
    write_all(STDOUT, scripts[options.shell]().encode())
    return 0
