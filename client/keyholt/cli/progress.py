"""A progress bar on standard error, on a terminal only."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

__all__ = ["shown"]

T = TypeVar("T")

WIDTH: Final = 30
"""Characters of the bar."""


def shown(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Pass the items on, drawing how many of ``total`` have gone by; nothing is drawn where nobody looks."""
    terminal = sys.stderr if sys.stderr is not None and sys.stderr.isatty() else None
    try:
        for done, item in enumerate(items, 1):
            if terminal is not None:
                bar = "#" * (WIDTH * done // max(total, 1))
                terminal.write(f"\r{what} [{bar:<{WIDTH}}] {done}/{total}")
                terminal.flush()
            yield item
    finally:
        if terminal is not None:
            terminal.write("\n")
