"""What cannot be done is refused before anybody is asked: here, where there is no terminal to ask on."""

from __future__ import annotations

import signal

import pytest

from tests.client.conftest import PASSPHRASE, RunningAgent
from tests.client.terminal import Terminal
from tests.support.programs import KEYHOLT

ADD = ("slot", "add", "passphrase", "--name")


@pytest.mark.parametrize(
    "words,status,said",
    [
        (("init",), 1, "there is a store already"),
        (("unlock", "--slot", "nope"), 3, "there is no keyslot 'nope'"),
        ((*ADD, "passphrase"), 1, "there is a keyslot 'passphrase' already"),
        (("slot", "change", "nope"), 3, "there is no keyslot 'nope'"),
        (("slot", "remove", "nope"), 3, "there is no keyslot 'nope'"),
        (("unlock", "--slot", "passphrase"), 2, "there is no terminal to ask on"),
        ((*ADD, "new"), 2, "there is no terminal to ask on"),
    ],
)
def test_an_unlocked_agent(agent: RunningAgent, words: tuple[str, ...], status: int, said: str) -> None:
    """A store that is there, a keyslot that is not: said at once. The counter-check: else they ask."""
    refused = agent.cli(*words)
    assert (refused.status, said in refused.err) == (status, True), refused.err


def test_an_agent_that_is_locked_or_has_no_store(own_agent: RunningAgent) -> None:
    """What needs the keys is refused at once; on a terminal `put` asks for the keyslot's passphrase first."""
    refused = own_agent.cli("unlock")
    assert (refused.status, "there is no store" in refused.err) == (4, True), refused.err
    assert own_agent.cli("init", "--passphrase-fd", "0", stdin=PASSPHRASE).status == 0
    own_agent.cli("lock")
    for words in ((*ADD, "new"), ("slot", "change", "passphrase"), ("slot", "remove", "passphrase")):
        refused = own_agent.cli(*words)
        assert (refused.status, "keyholt unlock" in refused.err) == (4, True), refused.err
    with Terminal([KEYHOLT, "--address", own_agent.address, "put", "a"], {}) as screen:
        screen.wait_for("Passphrase: ")
        assert b"the agent is locked" in screen.shown
        screen.type("\x03")
        assert screen.end() == -signal.SIGINT
        assert b"Value" not in screen.shown
