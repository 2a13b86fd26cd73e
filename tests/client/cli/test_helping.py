"""Help in all the ways in which it is asked for."""

from __future__ import annotations

import pytest

from keyholt.cli.dispatch import run
from keyholt.cli.table import COMMANDS


@pytest.mark.parametrize(
    "words,same",
    [
        ([], ["--help"]),
        (["help"], ["--help"]),
        (["help", "get"], ["get", "--help"]),
        (["help", "slot", "add"], ["slot", "add", "--help"]),
        (["help", "slot"], ["slot", "--help"]),
        (["slot"], ["slot", "--help"]),
    ],
)
def test_help_is_help(words: list[str], same: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing at all, `help` and --help say the same, with status 0."""
    shown = []
    for line in (words, same):
        assert run(line) == 0
        shown.append(capfd.readouterr().out)
    assert shown[0] == shown[1]
    assert shown[0].startswith("usage: keyholt")


def test_help_for_what_is_not_there(capfd: pytest.CaptureFixture[str]) -> None:
    """It is a mistake in the usage, and not repeated."""
    assert run(["help", "hunter2"]) == 2
    said = capfd.readouterr().err
    assert "there is no such command" in said
    assert "hunter2" not in said


def test_every_command_is_helped(capfd: pytest.CaptureFixture[str]) -> None:
    """By its words."""
    for command in COMMANDS:
        assert run(["help", *command.words]) == 0
        assert command.help.split()[0] in capfd.readouterr().out
