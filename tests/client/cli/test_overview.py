"""`status` for a person: what is open, until when, and what needs attention."""

from __future__ import annotations

import dataclasses

import pytest

from keyholt.cli.overview import attention, headline
from keyholt_protocol.messages import AgentStatusResult
from tests.client.conftest import RunningAgent, environment
from tests.client.terminal import Terminal
from tests.support.programs import KEYHOLT

STATUS = AgentStatusResult(
    state="unlocked",
    version="1",
    protocol=1,
    pid=1,
    uptime=1,
    store_path="/s",
    connections=1,
    memory_backend="mlock",
    memory_size=1000,
    memory_used=10,
    core_dumps=False,
    cache_limit=1,
    store_secrets=12,
)


@pytest.mark.parametrize(
    "changes,said",
    [
        ({}, "unlocked, 12 secrets"),
        ({"lifetime_lock_in": 3600}, "unlocked, 12 secrets; locks itself in 1 h"),
        ({"idle_lock_in": 60}, "unlocked, 12 secrets; locks itself in 1 min if not used"),
        (
            {"idle_lock_in": 60, "lifetime_lock_in": 3600},
            "unlocked, 12 secrets; locks itself in 1 min if not used, and in 1 h in any case",
        ),
        ({"idle_lock_in": 60, "lifetime_lock_in": 30}, "unlocked, 12 secrets; locks itself in 30 s"),
        (
            {"state": "locked", "locked_because": "request"},
            "locked, by request, 12 secrets; open it with `keyholt unlock`",
        ),
        (
            {"state": "uninitialised", "store_secrets": None},
            "there is no store yet; make one with `keyholt init`",
        ),
    ],
)
def test_the_state_in_a_sentence(changes: dict[str, object], said: str) -> None:
    """What is open, how much, until when; or what opens it."""
    assert headline(dataclasses.replace(STATUS, **changes))[0] == said  # type: ignore[arg-type]  # fields by name


@pytest.mark.parametrize(
    "changes,words",
    [
        ({"problem": "the disk is full"}, "problem: the disk is full"),
        ({"core_dumps": True}, "core dumps"),
        ({"memory_used": 950}, "nearly full"),
        ({"checked_rows": 1, "checking_rows": 4}, "25 %"),
        ({"to_rewrap": 1}, "1 data key to rewrap"),
    ],
)
def test_what_needs_attention(changes: dict[str, object], words: str) -> None:
    """Each by itself, and nothing where all is well."""
    (line,) = attention(dataclasses.replace(STATUS, **changes))  # type: ignore[arg-type]  # fields by name
    assert words in line[0]
    assert attention(STATUS) == []


def test_colour_on_a_terminal_only(agent: RunningAgent) -> None:
    """The first line is green there; it is plain for a program, on a dumb terminal, and with NO_COLOR."""
    assert agent.cli("status").out.startswith(b"unlocked, ")
    env = {**environment(), "KEYHOLT_ADDRESS": agent.address}
    for variables, begin in (("TERM=xterm", b"\x1b[32munlocked, "), ("TERM=xterm NO_COLOR=1", b"unlocked, ")):
        with Terminal(["env", *variables.split(), KEYHOLT, "status"], env) as screen:
            assert screen.end() == 0
            assert screen.shown.startswith(begin)
