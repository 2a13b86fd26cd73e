"""What happens on a terminal only: prompts without echo, the newline after a value, the progress bar."""

from __future__ import annotations

from pathlib import Path

import keyholt
from tests.client.conftest import PASSPHRASE, RunningAgent, environment
from tests.client.terminal import Terminal
from tests.support.programs import KEYHOLT


def terminal(agent: RunningAgent, *words: str) -> Terminal:
    """`keyholt` on a terminal."""
    return Terminal([KEYHOLT, *words], {**environment(), "KEYHOLT_ADDRESS": agent.address})


def test_a_passphrase_is_asked_for_twice_and_not_shown(own_agent: RunningAgent) -> None:
    """`init` asks twice, without echo; two that differ are refused and nothing is created."""
    with terminal(own_agent, "init") as screen:
        screen.wait_for("New passphrase: ")
        screen.type("s3same\n")
        screen.wait_for("New passphrase again: ")
        screen.type("s3other\n")
        assert screen.end() == 2
        assert b"differ" in screen.shown
    with terminal(own_agent, "init") as screen:
        screen.wait_for("New passphrase: ")
        screen.type(PASSPHRASE.decode() + "\n")
        screen.wait_for("again: ")
        screen.type(PASSPHRASE.decode() + "\n")
        assert screen.end() == 0
        assert PASSPHRASE not in screen.shown
        assert b"created the store" in screen.shown
    own_agent.cli("lock")
    with terminal(own_agent, "unlock") as screen:
        screen.wait_for("Passphrase: ")
        screen.type(PASSPHRASE.decode() + "\n")
        assert screen.end() == 0
    with keyholt.connect(own_agent.address) as client:
        assert client.status().state == "unlocked"


def test_an_interrupt_at_the_prompt(agent: RunningAgent) -> None:
    """Ctrl-C at a prompt ends with 130, without a traceback, and the terminal echoes again."""
    with terminal(agent, "init") as screen:
        screen.wait_for("New passphrase: ")
        screen.type("\x03")
        assert screen.end() == 130
        assert b"Traceback" not in screen.shown


def test_a_value_gets_a_newline_on_a_terminal(agent: RunningAgent) -> None:
    """On a terminal a newline follows, unless the value has one or -n says not to."""
    with keyholt.connect(agent.address) as client:
        client.put("tty/a", "value")
        client.put("tty/b", "value\n")
    for words, shown in (
        (["get", "tty/a"], b"value\r\n"),
        (["get", "-n", "tty/a"], b"value"),
        (["get", "tty/a", "-n"], b"value"),
        (["get", "tty/b"], b"value\r\n"),
        (["get", "tty/a", "--version", "1"], b"value\r\n"),
        (["get", "--version", "1", "-n", "tty/a"], b"value"),
    ):
        with terminal(agent, *words) as screen:
            assert screen.end() == 0
            assert screen.shown == shown


def test_import_draws_a_bar(agent: RunningAgent, tmp_path: Path) -> None:
    """On a terminal an import shows how far it is."""
    file = tmp_path / ".env"
    file.write_text("".join(f"V{number}=x\n" for number in range(40)))
    with terminal(agent, "import", str(file), "bar") as screen:
        assert screen.end() == 0
        assert b"40/40" in screen.shown
        assert b"imported 40 secrets" in screen.shown
