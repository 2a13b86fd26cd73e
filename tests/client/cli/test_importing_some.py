"""`import` of some variables: what is left out stays in the file of references."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import keyholt
from tests.client.conftest import RunningAgent

FILE = "# about\nexport DB_URL=u\nDB_KEY='k'\nDEBUG=1\nR=keyholt://x/y\n"


def test_only_and_except(agent: RunningAgent, tmp_path: Path) -> None:
    """What is left out stays in the file of references with its value; nothing of it is stored."""
    file, out = tmp_path / ".env", tmp_path / "refs"
    file.write_text(FILE)
    words = ("import", str(file), "some", "--only", "D*", "--except", "DEBUG", "--references", str(out))
    assert agent.cli(*words).status == 0
    assert out.read_text() == (
        "# about\nexport DB_URL=keyholt://some/DB_URL\nDB_KEY=keyholt://some/DB_KEY\nDEBUG=1\nR=keyholt://x/y\n"
    )
    with keyholt.connect(agent.address) as client:
        assert [secret.path for secret in client.list("some/")] == ["some/DB_KEY", "some/DB_URL"]


def test_dry_run_changes_nothing(agent: RunningAgent, tmp_path: Path) -> None:
    """The paths are told, and neither a secret nor a file is written."""
    file, out = tmp_path / ".env", tmp_path / "refs"
    file.write_text(FILE)
    words = ("import", str(file), "dry", "--references", str(out), "--dry-run")
    done = agent.cli(*words, "--except", "DB_*")
    assert (done.status, done.out) == (0, b"would write dry/DEBUG\n")
    told = json.loads(agent.cli(*words, "--json").out)
    assert told == {"would_import": ["dry/DB_URL", "dry/DB_KEY", "dry/DEBUG"], "kept": ["R"]}
    with keyholt.connect(agent.address) as client:
        assert client.list("dry/") == []
    assert not out.exists()


def test_a_value_that_others_expand(agent: RunningAgent, tmp_path: Path) -> None:
    """It is refused by line and name before anything is written; a comment that is left out is said."""
    file = tmp_path / ".env"
    file.write_text("A=1\nB=${A}\n#C=old\n")
    done = agent.cli("import", str(file), "expand")
    assert (done.status, "line 2: the value of B has ${...}" in done.err) == (1, True)
    done = agent.cli("import", str(file), "expand", "--only", "A", "--references", "-")
    assert (done.out, done.status) == (b"A=keyholt://expand/A\nB=${A}\n", 0)
    assert done.err == "keyholt: left out 1 line of comment, which may hold values\n"


@pytest.mark.parametrize("text", ["A=canary\nA=keyholt://x\n", "A=keyholt://x\nB=1\nA=canary\n"])
def test_a_value_and_a_reference_of_one_name(agent: RunningAgent, tmp_path: Path, text: str) -> None:
    """Refused by line and name, as the value would stay in the file; not if it is to stay."""
    file, line = tmp_path / ".env", text.count("\n")
    file.write_text(text)
    done = agent.cli("import", str(file), "both", "--references", str(file))
    said = f"line {line}: A is given as a value and as a reference"
    assert (done.status, said in done.err, "canary" in done.err) == (1, True, False)
    assert file.read_text() == text
    assert agent.cli("import", str(file), "both", "--except", "A").status == 0
