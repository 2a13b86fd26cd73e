"""How many cells of a terminal a text takes, and rows of texts as lines that are aligned by them.

- A character is two cells wide if East Asian typography says so (Unicode Standard Annex 11: wide or
  fullwidth), and none if it stands upon the one before it. What is of ambiguous width is taken as narrow, as
  terminals do outside of East Asian locales.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Final

__all__ = ["aligned", "width"]

WIDEST: Final = 48
"""Cells of a column that others are aligned to: a longer text pushes its own line on, and no other."""

_WIDE: Final = {"W", "F"}
_UPON: Final = {"Mn", "Me", "Cf"}
_JOINED: Final = range(0x1160, 0x1200)
"""Vowels and finals of Hangul, which take no room of their own behind the letter that they follow."""


def width(text: str) -> int:
    """Cells that printable text takes."""
    return len(text) if text.isascii() else sum(map(_width, text))


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of printable texts as lines, two cells between columns."""
    columns = list(zip(*rows, strict=True))
    widths = [max((w for w in map(width, column) if w <= WIDEST), default=0) for column in columns]
    return [
        "  ".join(
            text + " " * (cells - width(text)) for text, cells in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]


def _width(character: str) -> int:
    if unicodedata.category(character) in _UPON or ord(character) in _JOINED:
        return 0
    return 2 if unicodedata.east_asian_width(character) in _WIDE else 1
