"""What `put` takes for a value where nobody is asked, and what it refuses."""

from __future__ import annotations

from pathlib import Path

from tests.client.conftest import RunningAgent


def test_an_empty_value_has_to_be_asked_for(agent: RunningAgent, tmp_path: Path) -> None:
    """What a program leaves that failed before a pipe, or an empty file, makes no version."""
    empty = tmp_path / "empty"
    empty.touch()
    agent.cli("put", "value/a", stdin=b"kept")
    for refused in (agent.cli("put", "value/a"), agent.cli("put", "value/a", "--file", str(empty))):
        assert refused.status == 1
        assert "--allow-empty" in refused.err
    assert agent.cli("get", "value/a").out == b"kept"
    assert agent.cli("put", "value/a", "--allow-empty").out == b"value/a: version 2\n"
    assert agent.cli("get", "value/a").out == b""
