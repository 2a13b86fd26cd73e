"""The command ``find``: secrets by a part of their path or of a label."""

from __future__ import annotations

import os
from argparse import Namespace
from typing import Final

from keyholt.cli.command import Command, Parameter
from keyholt.cli.descriptors import STDOUT
from keyholt.cli.offering import unlocked
from keyholt.cli.output import say, show
from keyholt_protocol.messages import SecretInfo

__all__ = ["COMMANDS"]


def find(options: Namespace) -> int:
    """The command ``find``."""
    text = options.text.casefold()
    with unlocked(options) as agent:
        found = [info for info in agent.list() if any(text in name.casefold() for name in _names(info))]
    if options.json:
        show(found)
    else:
        # What is not given out is marked for people; programs get paths alone, and --json the marks.
        say(*(info.path + (_mark(info) if os.isatty(STDOUT) else "") for info in found))
    return 0


def _names(info: SecretInfo) -> list[str]:
    return [info.path, *(f"{key}={value}" for key, value in info.labels.items())]


def _mark(info: SecretInfo) -> str:
    marks = {"damaged": info.damaged, "destroyed": info.destroyed, "expired": info.expired}
    return next((f"  ({word})" for word, holds in marks.items() if holds), "")


COMMANDS: Final = (
    Command(
        words=("find",),
        help="Lists the secrets with a text in their path or in a label, KEY=VALUE; capitals do not count.",
        run=find,
        json="an array of objects: path, version, created, expires, labels, expired, destroyed, damaged",
        parameters=(Parameter(names=("TEXT",), help="what to look for"),),
    ),
)
