"""What is written to a terminal is shown, and does nothing else to it."""

from __future__ import annotations

import base64
import json

import pytest

import keyholt
from keyholt.cli.harmless import harmless
from tests.client.conftest import RunningAgent
from tests.client.terminal import Terminal
from tests.support.programs import KEYHOLT

TEXT = "plain\ttext\nwith Zoë, 秘密 and 🔑\r\n"
HARMFUL = [
    b"\x1b]0;owned\x07",
    b"\x1b[2J",
    b"\xff\xfe",
    b"a\0b",
    b"\x7f",
    b"over\rwritten",
    "\x9b2J".encode(),
    b"\x9b2J",
    "\u202eabc".encode(),
    b"\xc3a\xa9",
]


@pytest.mark.parametrize("value", [b"", TEXT.encode(), b"crlf\r\nonly\r\n"])
def test_text_is_harmless(value: bytes) -> None:
    """Whatever alphabet it is in, with tabs and either line end."""
    assert harmless(value)


@pytest.mark.parametrize("value", HARMFUL, ids=repr)
def test_what_is_not(value: bytes) -> None:
    """Controls, binary data, what changes the direction; by itself or within text."""
    assert not harmless(value)
    assert not harmless(TEXT.encode() + value)


def shown(agent: RunningAgent, *words: str) -> tuple[int, bytes]:
    """The status of `keyholt` on a terminal, and what was shown."""
    with Terminal([KEYHOLT, "--address", agent.address, *words], {}) as screen:
        return screen.end(), screen.shown


def test_get_on_a_terminal(agent: RunningAgent) -> None:
    """A value that a terminal would act on is refused, on the fast path and on the full one, unless --raw
    insists; nothing of it is written. JSON is safe, and to a pipe it goes as it is.
    """
    with keyholt.connect(agent.address) as client:
        client.put("harm/text", TEXT)
        client.put("harm/escape", HARMFUL[0])
        client.put("harm/binary", HARMFUL[2])
    assert shown(agent, "get", "harm/text") == (0, TEXT.replace("\n", "\r\n").encode())
    for path, value in (("harm/escape", HARMFUL[0]), ("harm/binary", HARMFUL[2])):
        for options in ((), ("--version", "1")):
            status, text = shown(agent, "get", path, *options)
            assert (status, value in text, b"--raw" in text) == (1, False, True)
            assert shown(agent, "get", path, *options, "--raw", "-n") == (0, value)
        status, text = shown(agent, "get", path, "--json")
        assert (status, text.strip().decode().isprintable()) == (0, True)
        got = json.loads(text)
        kept = base64.b64decode(got["value"]) if got["encoding"] == "base64" else got["value"].encode()
        assert kept == value
        assert agent.cli("get", path).out == value


def test_inject_on_a_terminal(agent: RunningAgent, tmp_path: object) -> None:
    """The same holds for what it fills in."""
    with keyholt.connect(agent.address) as client:
        client.put("harm/escape", HARMFUL[0])
    template = f"{tmp_path}/template"
    with open(template, "w", encoding="utf-8") as file:
        file.write("<keyholt://harm/escape>\n")
    status, text = shown(agent, "inject", "-i", template)
    assert (status, b"owned" in text, b"--out-file" in text) == (1, False, True)
