"""docs/python.md: it is what the docstrings say, and has a place for every public name."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path

import pytest

import keyholt
from keyholt.methods import Slots
from tests.support.generated_page import check_current, check_drift_is_told
from tools import python_reference
from tools.python_reference import PLUMBING, reference

TEXT = (Path(__file__).parents[2] / "docs/python.md").read_text("utf-8")


def test_reference_is_what_the_code_says() -> None:
    """The page in the tree is the one that would be written now; the tool, run alone, says so too."""
    assert reference() == TEXT
    check_current(python_reference)


def test_drift_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A page that differs, or is missing, is told in a sentence; writing it settles the matter."""
    changed = TEXT.replace("Fetch a secret", "Bring a secret", 1)
    check_drift_is_told(
        python_reference, TEXT, changed, into=tmp_path, monkeypatch=monkeypatch, capsys=capsys
    )


def test_everything_public_is_on_the_page() -> None:
    """Every name; every method with its parameters; every field of every result."""
    for name in keyholt.__all__:
        assert f"`{name}`" in TEXT or f"keyholt.{name}" in TEXT or name == "__version__"
    for owner, kind in (("agent", keyholt.Client), ("agent.slots", Slots), ("secret", keyholt.Secret)):
        for name, member in inspect.getmembers(kind):
            if name.startswith("_") or name in PLUMBING or not inspect.isfunction(member):
                continue
            section = TEXT.partition(f"### `{owner}.{name}`\n")[2].partition("\n### ")[0]
            for parameter in inspect.signature(member).parameters:
                assert parameter == "self" or f"{parameter}: " in section, (owner, name)
    for result in (getattr(keyholt, name) for name in keyholt.__all__ if name.endswith("Result")):
        section = TEXT.partition(f"### `{result.__name__}`\n")[2].partition("\n### ")[0]
        for field in dataclasses.fields(result):
            assert f"- `{field.name}`: " in section


def test_a_public_name_that_has_no_place_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody adds one, and the page would leave it out."""
    monkeypatch.setattr(keyholt, "__all__", [*keyholt.__all__, "__doc__"])
    with pytest.raises(AssertionError, match="no place for"):
        reference()
