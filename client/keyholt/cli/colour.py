"""Colour in what is printed, where a terminal and its user want it.

- No colour without a terminal, with ``NO_COLOR`` (https://no-color.org), with ``CLICOLOR=0`` or on a terminal
  that is called ``dumb``; with ``CLICOLOR_FORCE`` it is there in any case but that of ``NO_COLOR``
  (https://bixense.com/clicolors).
- Nothing is said by colour alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from keyholt.cli.output import printable

__all__ = ["Colour", "painted", "wants_colour"]


class Colour(Enum):
    """What a line is about, as the number of its colour (ECMA-48, 8.3.117)."""

    GOOD = 32
    WAITING = 33
    BAD = 31


def wants_colour(environment: Mapping[str, str], *, terminal: bool) -> bool:
    """Whether what is printed shall have colours, by what the user has set."""
    if environment.get("NO_COLOR"):
        return False
    if environment.get("CLICOLOR_FORCE", "0") not in {"", "0"}:
        return True
    return terminal and environment.get("CLICOLOR") != "0" and environment.get("TERM", "dumb") != "dumb"


def painted(text: str, colour: Colour | None) -> str:
    """One line, whatever it holds, in a colour if there is one."""
    line = printable(text)
    return line if colour is None else f"\x1b[{colour.value}m{line}\x1b[0m"
