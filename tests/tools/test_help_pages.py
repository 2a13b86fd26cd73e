"""The help as it was made beforehand is what the parsers would say now."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.generated_page import check_current, check_drift_is_told
from tools import help_pages
from tools.help_pages import TARGET, text

TEXT = TARGET.read_text("utf-8")


def test_pages_are_what_the_parsers_say() -> None:
    """The file in the tree is the one that would be written now; the tool, run alone, says so too."""
    assert text() == TEXT
    check_current(help_pages)


def test_drift_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that differs, or is missing, is told in a sentence; writing it settles the matter."""
    changed = TEXT.replace("undelete", "restore", 1)
    check_drift_is_told(help_pages, TEXT, changed, into=tmp_path, monkeypatch=monkeypatch, capsys=capsys)
