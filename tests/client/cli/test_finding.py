"""`find` looks in paths and labels, and marks what is not given out."""

from __future__ import annotations

import json

import keyholt
from tests.client.conftest import RunningAgent, environment
from tests.client.terminal import Terminal
from tests.support.programs import KEYHOLT


def test_find_looks_at_paths_and_labels(agent: RunningAgent) -> None:
    """Anywhere in them, whatever the capitals; marks are for a terminal and for --json."""
    with keyholt.connect(agent.address) as client:
        client.put("found/Needle-Path", "x")
        client.put("found/b", "x", labels={"owner": "NEEDLEWORK"})
        client.put("found/c", "needle in the value")
        client.destroy("found/b", version=1)
    assert agent.cli("find", "nEEdle").out == b"found/Needle-Path\nfound/b\n"
    assert agent.cli("find", "owner=need").out == b"found/b\n"
    assert [s["destroyed"] for s in json.loads(agent.cli("--json", "find", "needle").out)] == [False, True]
    assert (agent.cli("find", "no-such-needle").out, agent.cli("find", "no-such-needle").status) == (b"", 0)
    with Terminal([KEYHOLT, "find", "needle"], {**environment(), "KEYHOLT_ADDRESS": agent.address}) as screen:
        assert screen.end() == 0
        assert screen.shown == b"found/Needle-Path\r\nfound/b  (destroyed)\r\n"
