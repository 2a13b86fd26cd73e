"""Colour is for a terminal that wants it, and for nobody else."""

from __future__ import annotations

import pytest

from keyholt.cli.colour import Colour, painted, wants_colour


@pytest.mark.parametrize(
    "variables,terminal,wanted",
    [
        ({"TERM": "xterm"}, True, True),
        ({"TERM": "xterm"}, False, False),
        ({"TERM": "dumb"}, True, False),
        ({}, True, False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, True, False),
        ({"TERM": "xterm", "NO_COLOR": ""}, True, True),
        ({"TERM": "xterm", "CLICOLOR": "0"}, True, False),
        ({"CLICOLOR_FORCE": "1"}, False, True),
        ({"CLICOLOR_FORCE": "0"}, False, False),
        ({"CLICOLOR_FORCE": "1", "NO_COLOR": "1"}, True, False),
    ],
)
def test_who_wants_colour(variables: dict[str, str], terminal: bool, wanted: bool) -> None:
    """By the terminal and by the variables that programs agree on."""
    assert wants_colour(variables, terminal=terminal) is wanted


def test_a_line_stays_one_and_steers_nothing() -> None:
    """What is painted is printable, and the colour ends with the line."""
    assert painted("a\x1bb\n", Colour.BAD) == "\x1b[31ma\\x1bb\\n\x1b[0m"
    assert painted("a\n", None) == "a\\n"
