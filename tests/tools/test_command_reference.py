"""docs/commands.md: it is what the table of commands says, and names every command and option."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from keyholt.cli.table import COMMANDS, GLOBAL
from tests.support.generated_page import check_current, check_drift_is_told
from tools import command_reference
from tools.command_reference import reference

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/commands.md").read_text("utf-8")


def test_reference_is_what_the_code_says() -> None:
    """The page in the tree is the one that would be written now; the tool, run alone, says so too."""
    assert reference() == TEXT
    check_current(command_reference)


def test_drift_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A page that differs, or is missing, is told in a sentence; writing it settles the matter."""
    check_drift_is_told(
        command_reference,
        TEXT,
        TEXT.replace("undelete", "restore", 1),
        into=tmp_path,
        monkeypatch=monkeypatch,
        capsys=capsys,
    )


def test_a_change_of_a_command_is_drift(monkeypatch: pytest.MonkeyPatch) -> None:
    """A help text or a result's shape that changes makes the page out of date."""
    for changes in ({"help": "Something else."}, {"json": "something else"}):
        changed = (dataclasses.replace(COMMANDS[0], **changes), *COMMANDS[1:])  # type: ignore[arg-type]
        with monkeypatch.context() as patch:
            patch.setattr(command_reference, "COMMANDS", changed)
            assert reference() != TEXT


def test_everything_is_on_the_page() -> None:
    """Every command has a section, with all of its parameters; those of all commands stand before."""
    head, *sections = TEXT.split("\n## ")
    assert [section.split("\n")[0] for section in sections] == [f"`{' '.join(c.words)}`" for c in COMMANDS]
    for parameters, section in (
        (GLOBAL, head),
        *zip((c.parameters for c in COMMANDS), sections, strict=True),
    ):
        assert all(f"`{name}`" in section for parameter in parameters for name in parameter.names)
