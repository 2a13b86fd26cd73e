"""`export` hands out values below a prefix, to a file or a pipe, in a form that gives them back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import keyholt
from tests.client.conftest import RunningAgent, environment
from tests.client.terminal import Terminal
from tests.support.programs import KEYHOLT


@pytest.fixture(autouse=True)
def secrets(agent: RunningAgent) -> None:
    """The secrets that these tests export."""
    with keyholt.connect(agent.address) as client:
        if not client.list("export/"):
            client.put("export/app/URL", "it's")
            client.put("export/app/KEY", "canary-2211")
            client.put("export/other/KEY", "x")
            client.put("export/gone/OLD", "x")
            client.put("export/gone/NEW", "y")
            client.destroy("export/gone/OLD", version=1)


def test_export_writes_what_import_reads(agent: RunningAgent) -> None:
    """All below the prefix, by the last part of the path, in each format."""
    assert agent.cli("export", "export/app").out == b'KEY=canary-2211\nURL="it\'s"\n'
    shell = agent.cli("export", "export/app/", "--format", "shell").out
    assert shell == b"export KEY='canary-2211'\nexport URL='it'\\''s'\n"
    parsed = json.loads(agent.cli("export", "export/app", "--format", "json").out)
    assert parsed == {"KEY": "canary-2211", "URL": "it's"}


def test_export_to_a_file(agent: RunningAgent, tmp_path: Path) -> None:
    """Only the owner reads it; what goes wrong leaves the file that was there."""
    file = tmp_path / "out"
    file.write_text("before")
    failed = agent.cli("export", "export", "-o", str(file))
    assert (failed.status, file.read_text()) == (1, "before")
    assert "export/app/KEY and export/other/KEY" in failed.err
    assert agent.cli("export", "export/none", "-o", str(file)).status == 3
    assert [file] == list(tmp_path.iterdir())
    done = agent.cli("--json", "export", "export/app", "-o", str(file))
    assert json.loads(done.out) == {"file": str(file), "secrets": 2}
    assert (file.stat().st_mode & 0o777, "canary-2211" in file.read_text()) == (0o600, True)


def test_what_has_no_value_is_left_out_and_said(agent: RunningAgent) -> None:
    """A destroyed version is no reason to export nothing."""
    done = agent.cli("export", "export/gone")
    assert (done.out, "export/gone/OLD is left out" in done.err) == (b"NEW=y\n", True)


def test_a_terminal_is_asked(agent: RunningAgent) -> None:
    """Without --force nothing is printed; with it, only once `yes` has been typed."""
    env = {**environment(), "KEYHOLT_ADDRESS": agent.address}
    with Terminal([KEYHOLT, "export", "export/app"], env) as screen:
        assert (screen.end(), b"canary" in screen.shown) == (2, False)
    for typed, status in (("no\r", 2), ("yes\r", 0)):
        with Terminal([KEYHOLT, "export", "export/app", "--force"], env) as screen:
            screen.wait_for("this prints 2 values; type yes to go on: ")
            screen.type(typed)
            assert (screen.end(), b"canary" in screen.shown) == (status, status == 0)


def test_a_terminal_is_sent_nothing_that_it_acts_on(agent: RunningAgent) -> None:
    """A value may hold escape sequences, and no form hides them all."""
    with keyholt.connect(agent.address) as client:
        client.put("export/escape/A", "\x1b]0;canary\x07")
    env = {**environment(), "KEYHOLT_ADDRESS": agent.address}
    with Terminal([KEYHOLT, "export", "export/escape", "--force", "--format", "shell"], env) as screen:
        screen.wait_for("type yes to go on: ")
        screen.type("yes\r")
        assert (screen.end(), b"\x1b" in screen.shown, b"terminal may act" in screen.shown) == (
            1,
            False,
            True,
        )
