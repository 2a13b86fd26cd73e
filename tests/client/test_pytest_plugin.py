"""The fixture for the tests of others, in a pytest of its own, as others have it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from keyholt.testing import Agent, AgentStartError

pytest_plugins = ["pytester"]

SUITE = """
import os, pathlib
import keyholt

KNOWN = []

def test_it_serves_whoever_does_not_say_where(keyholt_agent):
    KNOWN.append(keyholt_agent)
    assert os.environ["KEYHOLT_ADDRESS"] == keyholt_agent.address
    with keyholt.connect() as client:
        assert client.put("a/b", "one").version == 1
        client.put("a/c", "two", labels={"k": "v"})
    assert keyholt.get("a/b").text == "one"
    assert keyholt_agent.directory.stat().st_mode & 0o777 == 0o700

def test_the_next_finds_nothing_and_leaves_it_locked(keyholt_agent):
    assert keyholt_agent is KNOWN[0]
    with keyholt_agent.connect() as client:
        assert client.list() == []
        client.lock()

def test_it_is_unlocked_again(keyholt_agent):
    assert keyholt_agent is KNOWN[0]
    with keyholt_agent.connect() as client:
        assert client.status().state == "unlocked"
        client.slots.add("second", existing=keyholt_agent.passphrase, new="x")

def test_one_with_another_keyslot_is_replaced(keyholt_agent):
    assert keyholt_agent is not KNOWN[0]
    assert not KNOWN[0].directory.exists()
    with keyholt.connect() as client:
        assert [slot.name for slot in client.slots.list()] == ["passphrase"]
        assert client.put("a/b", "x").version == 1

def test_without_it_nothing_is_set():
    assert "KEYHOLT_ADDRESS" not in os.environ

def test_where_it_was(keyholt_agent):
    pathlib.Path("where").write_text(str(keyholt_agent.directory))
"""


def test_a_suite_of_others(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has an agent, unlocked and empty, in one process as long as that can be; nothing stays."""
    monkeypatch.delenv("KEYHOLT_ADDRESS", raising=False)
    pytester.makepyfile(SUITE)
    pytester.runpytest_subprocess("-W", "error", "-p", "no:cacheprovider").assert_outcomes(passed=6)
    assert not Path((pytester.path / "where").read_text()).exists()


def test_the_plugin_costs_nothing_unasked() -> None:
    """It is imported in every run of pytest: without the library, the agent, or a word."""
    loaded = "sorted(name for name in set(sys.modules) - before if 'keyholt' in name)"
    code = "import pytest, sys; before = set(sys.modules); import keyholt.pytest_plugin"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; print(*{loaded})"], capture_output=True, check=True, timeout=60
    )
    assert done.stdout.split() == [b"keyholt", b"keyholt.pytest_plugin"]
    assert done.stderr == b""


def test_an_agent_that_cannot_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it wrote is in the error; nothing is left of it. Without the program, it says what to install."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    tmp_path.chmod(0o777)  # others could put another store there
    with pytest.raises(AgentStartError, match="the agent did not start: keyholt-agent: "), Agent():
        pass
    assert os.listdir(tmp_path) == []
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AgentStartError, match=r"keyholt\[testing\]"), Agent():
        pass
    assert os.listdir(tmp_path) == []
