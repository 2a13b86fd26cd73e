"""A person who finds the agent locked is asked for the passphrase; a program is not."""

from __future__ import annotations

import json

import keyholt
from tests.client.conftest import PASSPHRASE, RunningAgent, environment
from tests.client.terminal import Terminal
from tests.support.programs import KEYHOLT


def test_a_locked_agent_is_unlocked_on_the_way(own_agent: RunningAgent) -> None:
    """Somebody at a terminal is asked once, and gets what they asked for; programs get the error."""
    with keyholt.connect(own_agent.address) as client:
        client.init(passphrase=PASSPHRASE)
        client.put("a", "value")
        client.lock()
    env = {**environment(), "KEYHOLT_ADDRESS": own_agent.address}
    with Terminal([KEYHOLT, "get", "a"], env) as screen:
        screen.wait_for("the agent is locked; unlock it to go on")
        screen.wait_for("Passphrase: ")
        screen.type("wrong\n")
        assert screen.end() == 1
        assert screen.shown.count(b"Passphrase: ") == 1
    assert own_agent.cli("get", "a").status == 4
    for words in (f"{KEYHOLT} get a < /dev/null", f"{KEYHOLT} get a 2> /dev/null", f"{KEYHOLT} --json get a"):
        with Terminal(["sh", "-c", words], env) as screen:
            assert (screen.end(), b"Passphrase" in screen.shown) == (4, False)
    out = own_agent.directory / "out"
    with Terminal(["sh", "-c", f"{KEYHOLT} get a > {out}"], env) as screen:
        screen.wait_for("Passphrase: ")
        screen.type(PASSPHRASE.decode() + "\n")
        assert screen.end() == 0
    assert out.read_text() == "value"
    assert json.loads(own_agent.cli("--json", "status").out)["state"] == "unlocked"


def test_what_was_read_from_a_pipe_is_not_lost(own_agent: RunningAgent) -> None:
    """The command goes on after the unlocking, and does not begin anew with a pipe that is empty by then."""
    with keyholt.connect(own_agent.address) as client:
        client.init(passphrase=PASSPHRASE)
    env = {**environment(), "KEYHOLT_ADDRESS": own_agent.address}
    references = own_agent.directory / "references"
    for words in (
        f"{KEYHOLT} put piped --allow-empty --file <(printf value)",
        f"{KEYHOLT} import <(echo NAME=value) in --references {references}",
    ):
        own_agent.cli("lock")
        with Terminal(["bash", "-c", words], env) as screen:
            screen.wait_for("Passphrase: ")
            screen.type(PASSPHRASE.decode() + "\n")
            assert screen.end() == 0
    assert own_agent.cli("get", "piped").out == b"value"
    assert own_agent.cli("get", "in/NAME").out == b"value"
    assert references.read_text() == "NAME=keyholt://in/NAME\n"
