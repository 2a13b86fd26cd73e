"""Importing again: what has its value already is not written once more."""

from __future__ import annotations

import json
from pathlib import Path

import keyholt
from keyholt.cli.importing import LISTED_FROM
from tests.client.conftest import RunningAgent
from tests.support.wire import WireClient


def test_unchanged_values_make_no_versions(agent: RunningAgent, tmp_path: Path) -> None:
    """Of a file that is imported again, what differs, is new, deleted or expired is written; the rest is
    counted.
    """
    file = tmp_path / ".env"
    file.write_text("SAME=1\nOTHER=2\nGONE=3\nEMPTY=\nPAST=5\n")
    with WireClient(Path(agent.address)) as wire:  # no client of ours writes what has expired already
        wire.call("secret.put", b"5", path="again/PAST", expires=1).expect()
    with keyholt.connect(agent.address) as client:
        assert agent.cli("import", str(file), "again").out == b"imported 5 secrets below again/\n"
        assert agent.cli("import", str(file), "again").out == (
            b"imported 0 secrets below again/; 5 were unchanged\n"
        )
        client.delete("again/GONE")
        file.write_text("SAME=1\nOTHER=two\nGONE=3\nEMPTY=\nNEW=4\nREF=keyholt://x\n")
        done = json.loads(agent.cli("--json", "import", str(file), "again").out)
        assert done == {
            "imported": [
                {"path": "again/OTHER", "version": 2},
                {"path": "again/GONE", "version": 2},
                {"path": "again/NEW", "version": 1},
            ],
            "unchanged": [{"path": "again/SAME", "version": 1}, {"path": "again/EMPTY", "version": 1}],
            "kept": ["REF"],
        }
        assert client.get("again/SAME").version == 1
        assert client.get("again/OTHER").text == "two"


def test_one_of_each(agent: RunningAgent, tmp_path: Path) -> None:
    """One is not several."""
    (tmp_path / "one").write_text("A=1\n")
    assert agent.cli("import", "one", "single", cwd=tmp_path).out == b"imported 1 secret below single/\n"
    (tmp_path / "one").write_text("A=1\nB=1\n")
    said = agent.cli("import", "one", "single", cwd=tmp_path).out
    assert said == b"imported 1 secret below single/; 1 was unchanged\n"


def test_many_that_are_there_already_are_found_by_a_listing(agent: RunningAgent, tmp_path: Path) -> None:
    """Of many, those that have their value are left as they are too; new ones beside them are written."""
    file = tmp_path / "many.env"
    file.write_text("".join(f"NAME_{number}=value {number}\n" for number in range(LISTED_FROM)))
    assert agent.cli("import", str(file), "many").status == 0
    file.write_text(file.read_text().replace("value 7\n", "another\n") + "NEW=1\n")
    assert agent.cli("import", str(file), "many").out == (
        f"imported 2 secrets below many/; {LISTED_FROM - 1} were unchanged\n".encode()
    )
