"""The help of every command, in each way to ask for it, at once and without what a command needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from keyholt.cli.help_pages import page
from keyholt.cli.table import COMMANDS, GROUPS
from tests.client.conftest import environment
from tests.support.programs import KEYHOLT

LOADED = "import sys; sys.argv[1:] = {words}; from keyholt.cli.entry import main; main(); print(*sys.modules)"


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """`keyholt`, where there is no agent."""
    return subprocess.run(
        [KEYHOLT, *words], env=environment(), check=False, capture_output=True, text=True, timeout=60
    )


def test_there_is_one_for_everything() -> None:
    """The whole, each group and each command; none for what is no command."""
    for words in ([], *([group] for group in GROUPS), *(list(command.words) for command in COMMANDS)):
        text = page(words)
        assert text is not None
        assert text.startswith(f"usage: {' '.join(['keyholt', *words])} ")
        assert "\f" not in text
    assert page(["gett"]) is None


@pytest.mark.parametrize(
    "words,named",
    [
        (["--help"], []),
        (["help"], []),
        ([], []),
        (["put", "-h"], ["put"]),
        (["help", "slot", "add"], ["slot", "add"]),
        (["slot"], ["slot"]),
        (["get", "a", "--help"], ["get"]),
        (["--json", "get", "--help"], ["get"]),
    ],
)
def test_every_way_gives_the_same(words: list[str], named: list[str]) -> None:
    """By the fast path and by the full one."""
    done = run(*words)
    assert (done.returncode, done.stdout, done.stderr) == (0, page(named), "")


def test_little_is_loaded_for_it() -> None:
    """Neither the parsers nor the messages: they take ten times as long as all the rest."""
    program = LOADED.format(words=["put", "--help"])
    command = [sys.executable, "-I", "-c", program]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "keyholt.cli.help_pages" in loaded
    assert not loaded & {"argparse", "keyholt.cli.parser", "keyholt_protocol.messages"}
