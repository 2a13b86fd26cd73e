"""`mv`, `cp` and `purge`: the whole history goes, and nothing goes by mistake."""

from __future__ import annotations

import keyholt
from tests.client.conftest import RunningAgent, environment
from tests.client.terminal import Terminal
from tests.support.programs import KEYHOLT


def test_move_and_copy(agent: RunningAgent) -> None:
    """The whole history goes along; what is there already is never written over."""
    with keyholt.connect(agent.address) as client:
        client.put("moving/a", "1")
        client.put("moving/a", "2")
        assert agent.cli("mv", "moving/a", "moving/b").status == 0
        assert agent.cli("cp", "moving/b", "moving/c").status == 0
        assert [s.path for s in client.list("moving/")] == ["moving/b", "moving/c"]
        assert client.get("moving/c", version=1).text == "1"
    assert agent.cli("mv", "moving/b", "moving/c").status == 1
    assert agent.cli("cp", "moving/a", "moving/d").status == 3


def test_purge_asks_for_the_path(agent: RunningAgent) -> None:
    """On a terminal the path is to be typed; without one --yes is."""
    with keyholt.connect(agent.address) as client:
        client.put("purging/a", "1")
        env = {**environment(), "KEYHOLT_ADDRESS": agent.address}
        assert "--yes" in agent.cli("purge", "purging/a").err
        for typed, status in (("yes", 2), ("purging/a", 0)):
            with Terminal([KEYHOLT, "purge", "purging/a"], env) as screen:
                screen.wait_for("this erases purging/a with 1 version, for good; type purging/a to go on: ")
                assert len(client.list("purging/")) == 1
                screen.type(f"{typed}\r")
                assert screen.end() == status
        assert client.list("purging/") == []
        client.put("purging/b", "1")
    assert agent.cli("purge", "purging/b", "--yes", "--if-version", "2").status == 1
    assert agent.cli("purge", "purging/b", "--yes").status == 0
    assert agent.cli("purge", "purging/b").status == 3


def test_a_new_path_is_another_and_is_one(agent: RunningAgent) -> None:
    """What cannot be meant is said in words of the command line, and nothing is to be purged for it."""
    with keyholt.connect(agent.address) as client:
        client.put("moving/same", "x")
    for command in ("mv", "cp"):
        for to, said in (("moving/same", "both paths are the same"), ("moving/", "the new path is empty")):
            refused = agent.cli(command, "moving/same", to)
            assert (refused.status, said in refused.err, "purge" in refused.err) == (2, True, False)
