"""``import``: the variables of a file become secrets, and references to them take their place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import keyholt
from tests.client.conftest import RunningAgent

CANARY = "canary-c4d1"


def test_import_and_references(agent: RunningAgent, tmp_path: Path) -> None:
    """Every variable of a file becomes a secret; the file of references gives `run` the same environment."""
    env, references = tmp_path / ".env", tmp_path / "app.env"
    env.write_text(
        f'URL=postgres://u:p@h/db?x=1\nKEY="-----BEGIN-----\n{CANARY}\n"\nEMPTY=\nNAME=Zoë\nREF=keyholt://imp/URL\n'
    )
    done = agent.cli("--json", "import", str(env), "imp", "--references", str(references))
    summary = json.loads(done.out)
    assert [entry["path"] for entry in summary["imported"]] == ["imp/URL", "imp/KEY", "imp/EMPTY", "imp/NAME"]
    assert summary["kept"] == ["REF"]
    assert done.err == ""  # no progress bar where there is no terminal
    assert CANARY not in references.read_text()
    ran = agent.cli("run", "--env-file", str(references), "--", "env", "-0")
    variables = dict(pair.split("=", 1) for pair in ran.out.decode().split("\0") if pair)
    assert variables["KEY"] == f"-----BEGIN-----\n{CANARY}\n"
    assert (variables["EMPTY"], variables["NAME"]) == ("", "Zoë")
    assert variables["URL"] == variables["REF"] == "postgres://u:p@h/db?x=1"


@pytest.mark.parametrize(
    "text,prefix,expected",
    [
        (f"A=1\nB='{CANARY}\n", "imp", (1, "f.env, line 2: the value's ' is never closed")),
        (
            f"A=1\n\n{'L' * 520}={CANARY}\n",
            "refused",
            (2, "f.env, line 3: the path is longer than 512 bytes"),
        ),
        (
            f"A={CANARY}\n",
            "/".join("abcdefghijklmnopqrstuvwxyzabcdef"),
            (2, "f.env, line 1: the path has 33"),
        ),
        (f"A={CANARY}\n", "refused/../up", (2, "the path has the segment '..'")),
        (f"A={CANARY}\n", "", (2, "the path is empty")),
    ],
)
def test_what_cannot_be_imported_is_named(
    agent: RunningAgent, tmp_path: Path, text: str, prefix: str, expected: tuple[int, str]
) -> None:
    """A line that is wrong, or whose name is no path, is refused by its number before anything is written."""
    status, said = expected
    (tmp_path / "f.env").write_text(text)
    refused = agent.cli("import", "f.env", prefix, cwd=tmp_path)
    assert (refused.status, said in refused.err, CANARY in refused.err) == (status, True, False), refused.err
    with keyholt.connect(agent.address) as client:
        assert client.list("refused") == []


def test_references_take_the_place_of_the_file(agent: RunningAgent, tmp_path: Path) -> None:
    """The imported file itself may become the file of references: it is replaced whole, at the end."""
    env = tmp_path / ".env"
    env.write_text("ONE=1\nTWO=2\nONE=3\n")
    done = agent.cli("import", str(env), "place", "--references", str(env))
    assert (done.status, done.out) == (0, b"imported 2 secrets below place/\n")
    one, two = (f"{name}=keyholt://place/{name}\n" for name in ("ONE", "TWO"))
    assert env.read_text() == one + two + one
    assert agent.cli("get", "place/ONE").out == b"3"


def test_nothing_is_imported_where_the_references_cannot_be_written(
    agent: RunningAgent, tmp_path: Path
) -> None:
    """The file of references is tried first, and the error names it, not one beside it; nothing is stored."""
    env, out = tmp_path / ".env", tmp_path / "none" / "app.env"
    env.write_text("A=1\n")
    done = agent.cli("import", str(env), "unwritten", "--references", str(out))
    assert (done.status, done.out) == (1, b"")
    assert done.err == f"keyholt: {out}: No such file or directory\n"
    assert agent.cli("list", "unwritten/").out == b""


def test_references_to_standard_output(agent: RunningAgent) -> None:
    """``-`` is standard output, which then holds the references and nothing else; so it cannot be with
    --json.
    """
    done = agent.cli("import", "-", "streamed", "--references", "-", stdin=b"A=1\nB=keyholt://x\n")
    assert (done.status, done.out) == (0, b"A=keyholt://streamed/A\nB=keyholt://x\n")
    both = agent.cli("--json", "import", "-", "streamed", "--references", "-", stdin=b"A=1\n")
    assert (both.status, json.loads(both.err)["error"]["code"]) == (2, "usage")
