"""Texts are measured in the cells that a terminal gives them, and rows aligned by them."""

from __future__ import annotations

import unicodedata

import pytest

from keyholt.cli.cells import WIDEST, aligned, width

COMBINED = unicodedata.normalize("NFD", "é")


@pytest.mark.parametrize(
    "text,cells",
    [
        ("", 0),
        ("abc", 3),
        ("é", 1),
        (COMBINED, 1),
        ("秘密", 4),
        ("ﾊﾟ", 2),
        ("한", 2),
        ("ﬀ", 1),
        ("🔑", 2),
        ("Ａ", 2),
    ],
)
def test_width(text: str, cells: int) -> None:
    """Wide characters take two, those that stand upon another none."""
    assert width(text) == cells


def test_rows_are_aligned_by_cells() -> None:
    """The second column begins at the same cell, whatever stands before it."""
    lines = aligned([(text, "v1", "x") for text in ("秘密/鍵", COMBINED * 3, "plain", "🔑")])
    assert {width(line[: line.index("v1")]) for line in lines} == {9}
    assert not any(line.endswith(" ") for line in lines)


def test_a_long_text_moves_no_other_line() -> None:
    """Only its own line is pushed on, and nothing of it is cut."""
    long = "l" * (WIDEST + 100)
    lines = aligned([("short", "v1"), (long, "v22"), ("w" * WIDEST, "v3")])
    assert lines == [f"short{' ' * (WIDEST - 5)}  v1", f"{long}  v22", f"{'w' * WIDEST}  v3"]
