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
    text, many = tmp_path / "text", tmp_path / "many"
    text.write_text("a={{ keyholt://residue/short }}\n")
    many.write_text("a={{ keyholt://residue/short }}\n" * 60 + "{{ keyholt://residue/long }}\n" * 3)
    for value, name in ((SHORT, "residue/short"), (LONG, "residue/long")):
        assert run(agent, path, "put", name, stdin=value)[1] == {}
        assert run(agent, path, "get", name) == (value, {})
        assert run(agent, path, "get", name, "--version", "1") == (value, {})
    assert run(agent, path, "inject", "--in-file", str(text)) == (b"a=" + SHORT + b"\n", {})
    filled = (b"a=" + SHORT + b"\n") * 60 + (LONG + b"\n") * 3
    assert run(agent, path, "inject", "--in-file", str(many)) == (filled, {})
    assert run(agent, path, "unlock", "--passphrase-fd", "0", stdin=PASSPHRASE)[1] == {}


@pytest.mark.parametrize("large", [False, True])
def test_import_leaves_nothing(agent: RunningAgent, tmp_path: Path, large: bool) -> None:
    """Of values plain, quoted, with escapes and given twice, in small files and large, of either line end."""
    file = tmp_path / "env"
    short, long = SHORT.decode(), (LONG if large else UNIT).decode()
    other = os.urandom(24).hex()  # as long as the short value, for the memory that is used again
    lines = [f"A={short} # plain", f'B="{short}\\n{short}"', "C=keyholt://a", f"D='{long}'", f"A={other}"]
    for end in ("\n", "\r\n"):
        file.write_bytes((end.join(lines) + end).encode())
        assert run(agent, CODE_PATHS[0], "import", str(file), "residue/import")[1] == {}
    with keyholt.connect(agent.address) as client:
        assert client.get("residue/import/A").text == other
        assert client.get("residue/import/B").bytes == SHORT + b"\n" + SHORT
        assert client.get("residue/import/D").text == long


def test_json_leaves_a_value_to_the_end_of_the_process(agent: RunningAgent) -> None:
    """Text in JSON passes through objects that nothing can wipe: the search finds them."""
    with keyholt.connect(agent.address) as client:
        client.put("residue/json", SHORT)
    _, left = run(agent, CODE_PATHS[0], "--json", "get", "residue/json")
    assert left.keys() == {"short value"}
