"""Deadlines of the command line: no command waits longer than it was told to."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from keyholt.blocking import CALL_TIMEOUT
from keyholt.cli import fast
from keyholt.connecting import CONNECT_TIMEOUT, LEFT_BEHIND
from tests.client.conftest import Result, command_line, environment
from tests.client.scripted import Peer, Script, ScriptedAgent


def silent_after_greeting(peer: Peer) -> None:
    """Greet, take everything, answer nothing."""
    peer.greet()
    while True:
        peer.request()


def test_the_command_line_has_a_deadline(tmp_path: Path) -> None:
    """``--timeout`` is for every command, before it or after; overdue is status 1 with the sentence."""

    def run(*words: str) -> Result:
        with ScriptedAgent(tmp_path / words[0], silent_after_greeting) as agent:
            return command_line("--address", agent.address, *words)

    with ThreadPoolExecutor() as pool:  # both wait out their second at the same time
        before = pool.submit(run, "--timeout", "1", "get", "a")
        after = pool.submit(run, "status", "--timeout", "1")
    for ran in (before.result(), after.result()):
        assert (ran.status, ran.out) == (1, b"")
        assert "has not answered" in ran.err
        assert "within 1 seconds" in ran.err


FAST = """
import sys
from keyholt.cli import entry, fast
fast.CALL_TIMEOUT = fast.CONNECT_TIMEOUT = 0.05
sys.exit(entry.main(sys.argv[1:]))
"""


def silent(peer: Peer) -> None:
    """Take everything, answer nothing."""
    while True:
        peer.request()


SILENT_PARTS = [
    (
        silent_after_greeting,
        1,
        "the agent has not answered within 0.05 seconds; ask again, or give it longer",
    ),
    (silent, 6, "accepted the connection and does not answer; see its log"),
]


@pytest.mark.parametrize("script,status,said", SILENT_PARTS, ids=["call", "greeting"])
@pytest.mark.parametrize("words", [("get", "a"), ("run", "--", "true")])
def test_the_fast_path_asks_once(
    tmp_path: Path, words: tuple[str, ...], script: Script, status: int, said: str
) -> None:
    """An answer that is overdue there, or the greeting's, is told at once: the agent is not asked a second
    time.
    """
    with ScriptedAgent(tmp_path / "s", script, script) as agent:
        done = subprocess.run(
            [sys.executable, "-c", FAST, "--address", agent.address, *words],
            env={**environment(), "A": "keyholt://a"},
            capture_output=True,
            timeout=30,
            check=False,
        )
        assert agent.connections == 1
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (status, b"", 1)
    assert said in done.stderr.decode()


def test_the_fast_path_has_the_librarys_times() -> None:
    """They cannot be imported in time; they are the same."""
    times = (fast.CALL_TIMEOUT, fast.CONNECT_TIMEOUT, fast.LEFT_BEHIND)
    assert times == (CALL_TIMEOUT, CONNECT_TIMEOUT, LEFT_BEHIND)
