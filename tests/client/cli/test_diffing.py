"""`diff` says what differs between two versions, and shows no more of them than is asked for."""

from __future__ import annotations

import json

import pytest

import keyholt
from tests.client.conftest import RunningAgent, environment
from tests.client.terminal import Terminal
from tests.support.programs import KEYHOLT


@pytest.mark.parametrize(
    "old,new",
    [
        ('{"a": "canary-1", "b": 1, "c": 2}', '{"a": "canary-2", "b": 1, "d": 2}'),
        ("a=canary-1\nb=1\nc=2\n", "a=canary-2\nb=1\nd=2\n"),
    ],
    ids=["json", "env"],
)
def test_fields_are_named_and_values_are_not(agent: RunningAgent, old: str, new: str) -> None:
    """Which were changed, added and removed; lengths and labels."""
    with keyholt.connect(agent.address) as client:
        version = client.put("diff/a", old, labels={"by": "me"}).version
        client.put("diff/a", new, labels={"by": "you"})
    done = agent.cli("diff", "diff/a")
    lines = done.out.decode().splitlines()
    assert lines[-4:] == ["the values differ", "changed: a", "added: d", "removed: c"]
    assert [line.split() for line in lines if line[:5] in {"bytes", "label"}] == [
        ["bytes", str(len(old)), str(len(new))],
        ["labels", "by=me", "by=you"],
    ]
    assert b"canary" not in done.out
    told = json.loads(agent.cli("--json", "diff", "diff/a", f"v{version}", str(version)).out)
    assert (told["equal"], told["changed"], told["versions"][0]["size"]) == (True, [], len(old))


@pytest.mark.parametrize(
    "value",
    [
        "Y2FuYXJ5==",
        "Y2FuYXJ5\nMQ==\nY2FuYXJ5MQ==\n",
        "Y2FuYXJ5MQ==\nY2FuYXJ5NA==\n",
        "Y2FuYXJ5MTEx\nY2FuYXJ5MTE=\nY2FuYXJ5MQ=  \n",
        "MNQW4YLSPEYQ====\nMNQW4YLSPEYTC===\n",
        "MNQW4YLSPEYTCMI=\nA=1\n",
        "Y2FuYXJ5=1\nA=1\n",
        '{"a":' * 3000,
        '{"a":' + "[" * 100000,
    ],
    ids=["one", "lines", "padded", "blanks", "base32", "one empty", "two cases", "deep", "deeper"],
)
def test_what_has_no_fields_shows_none(agent: RunningAgent, value: str) -> None:
    """Base64 looks like a variable, and its name is the value: nothing is said of it but that it differs.
    Nor of what is nested too deeply.
    """
    with keyholt.connect(agent.address) as client:
        first, last = (client.put("diff/b", text).version for text in (value, f"{value}\nB=2"))
        if "{" in value:
            last = client.put("diff/b", value + "1").version
    told = json.loads(agent.cli("--json", "diff", "diff/b", str(first), str(last)).out)
    assert (told["equal"], told["changed"], told["added"]) == (False, None, None)


def test_nothing_is_said_of_a_value_but_that_it_differs(agent: RunningAgent) -> None:
    """Where it has no fields."""
    with keyholt.connect(agent.address) as client:
        client.put("diff/f", "Y2FuYXJ5==\nY2FuYXJ5==")
        client.put("diff/f", "Y2FuYXJ6==\nY2FuYXJ5==")
    done = agent.cli("diff", "diff/f")
    assert (done.status, done.out.decode().splitlines()[-1]) == (0, "the values differ")
    assert b"Y2Fu" not in done.out


def test_show_prints_the_values(agent: RunningAgent) -> None:
    """As a unified diff, only with --show; of what is not text there is none."""
    with keyholt.connect(agent.address) as client:
        client.put("diff/c", "one\ntwo\n")
        client.put("diff/c", "one\nthree")
        client.put("diff/c", b"\xff")
    shown = agent.cli("diff", "diff/c", "1", "2", "--show").out.decode()
    assert shown.splitlines()[-4:] == [" one", "-two", "+three", "\\ No newline at end of file"]
    assert agent.cli("diff", "diff/c", "--show").status == 2


def test_a_terminal_is_sent_nothing_that_it_acts_on(agent: RunningAgent) -> None:
    """What differs may hold escape sequences; what is plain is shown."""
    with keyholt.connect(agent.address) as client:
        for value in ("one\n", "two\n", "\x1b]0;canary\x07"):
            client.put("diff/e", value)
    env = {**environment(), "KEYHOLT_ADDRESS": agent.address}
    for versions, status, shown in ((("1", "2"), 0, b"+two"), (("2", "3"), 1, b"terminal may act")):
        with Terminal([KEYHOLT, "diff", "diff/e", *versions, "--show"], env) as screen:
            assert (screen.end(), shown in screen.shown, b"\x1b" in screen.shown) == (status, True, False)


def test_what_cannot_be_compared(agent: RunningAgent) -> None:
    """One version alone, and none that is a number; with one that is named, it is the newest."""
    with keyholt.connect(agent.address) as client:
        client.put("diff/d", "x")
    assert agent.cli("diff", "diff/d").status == 3
    assert b"the values are the same" in agent.cli("diff", "diff/d", "1").out
    assert agent.cli("diff", "diff/d", "1", "x").status == 2
    assert agent.cli("diff", "diff/d", "1", "2").status == 3
