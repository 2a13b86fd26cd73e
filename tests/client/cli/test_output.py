"""What is printed cannot steer a terminal, whoever made the text."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyholt.cli.output import _json, printable, table
from keyholt_protocol.errors import ErrorCode, NotFoundError
from keyholt_protocol.messages import SecretInfo, SecretListResult
from tests.client.conftest import command_line
from tests.client.scripted import Peer, ScriptedAgent

HOSTILE = "\x1b]0;owned\x07\x9b2J\r\nkeyholt: all is well\u202e\u2028\x7f\U000e0041"
CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\u2028\U000e0041]")


@given(st.text())
def test_text_is_printable_and_unchanged_where_it_was(text: str) -> None:
    """What is not printable is written out; what is printable stays as it is."""
    assert printable(text).isprintable()
    assert not text.isprintable() or printable(text) == text


@given(st.text() | st.lists(st.text()))
def test_json_is_printable_and_means_the_same(value: object) -> None:
    """One printable line of JSON in UTF-8 that reads as the value."""
    line = _json(value).decode()
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    assert json.loads(line) == value


def test_a_table_is_aligned_by_what_is_shown() -> None:
    """Columns are as wide as what is written out."""
    assert table([("a\x1b", "x"), ("b", "y")]) == ["a\\x1b  x", "b      y"]


@pytest.mark.parametrize("option", [(), ("--json",)])
def test_a_hostile_agents_words_are_written_out(tmp_path: Path, option: tuple[str, ...]) -> None:
    """Errors and listings of an agent that sends escape sequences and line ends show them, on one line."""

    def refuse(peer: Peer) -> None:
        peer.greet()
        peer.fail(peer.request()[0], NotFoundError(HOSTILE))

    def list_one(peer: Peer) -> None:
        peer.greet()
        secret = SecretInfo(path=HOSTILE, version=1, created=2**62, labels={HOSTILE: HOSTILE})
        peer.answer(peer.request()[0], SecretListResult(secrets=(secret,)))

    with ScriptedAgent(tmp_path / "s", refuse, list_one) as agent:
        refused = command_line("--address", agent.address, *option, "rm", "a")
        listed = command_line("--address", agent.address, *option, "list", "-l")
    assert (refused.status, listed.status) == (3, 0)
    for text in (refused.err, listed.out.decode()):
        assert not CONTROLS.search(text)
        assert text.count("\n") == 1
    if option:
        error = json.loads(refused.err)["error"]
        assert (error["code"], error["message"]) == (ErrorCode.NOT_FOUND.wire_name, HOSTILE)
        assert json.loads(listed.out)[0]["path"] == HOSTILE
