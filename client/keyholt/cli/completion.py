"""The command ``completion``: prints the script that a shell reads."""

from __future__ import annotations

from argparse import Namespace

from keyholt.cli.output import say
from keyholt.cli.shells import bash, fish, zsh

__all__ = ["completion"]


def completion(options: Namespace) -> int:
    """JSON: none, for the script itself is the result."""
    scripts = {"bash": bash.script, "zsh": zsh.script, "fish": fish.script}
    say(scripts[options.shell]().rstrip("\n"))
    return 0
