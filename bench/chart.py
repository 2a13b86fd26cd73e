"""The bar chart in the terminal: every figure against its target, which stands in the same column for all.

- A bar is as long as the figure is of its target. It has to pass the mark where the figure is to be large,
  and to stay short of it where it is to be small; the sign in front of the target says which.
- As wide as the terminal; colours on a terminal only, and not where NO_COLOR is set; no box characters where
  the encoding has none.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from typing import Final, TextIO

from bench.figures import Bound, Figure

__all__ = ["chart"]

WIDEST: Final = 110
SHORTEST_BAR: Final = 12
SCALE: Final = 2.0
"""Targets that a whole bar stands for."""

_SIGNS: Final = "█░│≥≤"
_PLAIN_SIGNS: Final = "#.|><"
_RED: Final = "\033[31m"
_GREEN: Final = "\033[32m"
_PLAIN: Final = "\033[0m"


def chart(figures: Sequence[Figure], out: TextIO = sys.stdout) -> str:
    """The chart as lines of text, made for ``out``."""
    width = min(shutil.get_terminal_size((80, 24)).columns, WIDEST)
    coloured = out.isatty() and "NO_COLOR" not in os.environ
    signs = _SIGNS if _can_write(out, _SIGNS) else _PLAIN_SIGNS
    titles = max((len(figure.title) for figure in figures), default=0)
    numbers = max((len(_numbers(figure)) for figure in figures), default=0)
    room = width - numbers - len("  MISSED ")
    beside = room - titles - 1 >= SHORTEST_BAR
    lines: list[str] = []
    for figure in figures:
        bar = _bar(figure, room - titles - 1 if beside else max(room, SHORTEST_BAR), signs)
        colour, plain = ((_GREEN if figure.reached else _RED), _PLAIN) if coloured else ("", "")
        numbers_text = _numbers(figure).translate(str.maketrans(_SIGNS, signs))
        said = f"{colour}{bar}{plain} {numbers_text:<{numbers}} {'' if figure.reached else 'MISSED'}".rstrip()
        lines += [f"{figure.title:<{titles}} {said}"] if beside else [figure.title, said]
    return "\n".join(lines)


def _numbers(figure: Figure) -> str:
    return f"{figure.value_text} ({figure.target_text})"


def _bar(figure: Figure, width: int, signs: str) -> str:
    full, empty, mark = signs[0], signs[1], signs[2]
    share = figure.value / figure.target / SCALE if figure.target else 0.0
    filled = round(max(0.0, min(1.0, share)) * width)
    at = round(width / SCALE)
    if filled == at:  # rounding must not turn a missed target into a reached one, or the other way round
        filled += 1 if (figure.bound is Bound.AT_LEAST) == figure.reached else -1
    bar = full * filled + empty * (width - filled)
    return bar[: at - 1] + mark + bar[at:]


def _can_write(out: TextIO, text: str) -> bool:
    try:
        text.encode(out.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True
