"""What a command has left of values and passphrases, in memory and registers, when it is about to end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import keyholt
from tests.client.conftest import PASSPHRASE, RunningAgent, environment
from tests.support.code_paths import CODE_PATHS, CodePath
from tests.support.last_moment import left_at_exit
from tests.support.programs import KEYHOLT


def run(
    agent: RunningAgent, path: CodePath, *words: str, stdin: bytes = b""
) -> tuple[bytes, dict[str, list[str]]]:
    """What ``keyholt`` writes, and what it has left of ``stdin`` or of what it wrote."""
    status, out, left = left_at_exit(
        [KEYHOLT, "--address", agent.address, *words],
        NEEDLES,
        stdin=stdin,
        environment={**environment(), **path.variables},
    )
    assert status == 0
    return out, left


SHORT = os.urandom(24).hex().encode()
UNIT = os.urandom(500).hex().encode()
LONG = UNIT * 3000
"""More than a command reads at once."""

NEEDLES = {"short value": SHORT, "long value": UNIT, "passphrase": PASSPHRASE}


@pytest.mark.parametrize("path", [CODE_PATHS[0], CODE_PATHS[-1]], ids=str)
def test_commands_leave_nothing(agent: RunningAgent, path: CodePath, tmp_path: Path) -> None:
    """Those that write a value, short and long ones, those that give one out, one that takes a passphrase."""
    text = tmp_path / "text"
    text.write_text("a={{ keyholt://residue/short }}\n")
    for value, name in ((SHORT, "residue/short"), (LONG, "residue/long")):
        assert run(agent, path, "put", name, stdin=value)[1] == {}
        assert run(agent, path, "get", name) == (value, {})
        assert run(agent, path, "get", name, "--version", "1") == (value, {})
    assert run(agent, path, "inject", "--in-file", str(text)) == (b"a=" + SHORT + b"\n", {})
    assert run(agent, path, "unlock", "--passphrase-fd", "0", stdin=PASSPHRASE)[1] == {}


def test_json_leaves_a_value_to_the_end_of_the_process(agent: RunningAgent) -> None:
    """Text in JSON passes through objects that nothing can wipe: the search finds them."""
    with keyholt.connect(agent.address) as client:
        client.put("residue/json", SHORT)
    _, left = run(agent, CODE_PATHS[0], "--json", "get", "residue/json")
    assert left.keys() == {"short value"}
