"""A progress bar on standard error, on a terminal only."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Final, TextIO, TypeVar

__all__ = ["shown", "watched"]

T = TypeVar("T")

WIDTH: Final = 30
"""Characters of the bar."""

NARROWEST: Final = 5
"""Characters of a bar that still tells anything."""

UNKNOWN_WIDTH: Final = 80
"""Columns of a terminal that does not say how many it has."""

INTERVAL: Final = 0.2
"""Seconds between two looks at what is watched."""


def shown(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Pass the items on, drawing how many of ``total`` have gone by; nothing is drawn where nobody looks."""
    terminal = _terminal()
    try:
        for done, item in enumerate(items, 1):
            if terminal is not None:
                _draw(terminal, what, done, total)
            yield item
    finally:
        if terminal is not None:
            terminal.write("\n")


@contextmanager
def watched(look: Callable[[], tuple[int, int] | None], what: str) -> Generator[None, None, None]:
    """While the block runs, draw how much of something is done; nothing is drawn where nobody looks.

    Args:
        look: gives how much is done, and of how much; None when there is nothing to show. It is called from
            time to time, in a thread of its own, and never after it has raised.
        what: is being done.
    """
    terminal, over = _terminal(), threading.Event()
    if terminal is None:
        yield
        return
    thread = threading.Thread(target=_watch, args=(terminal, look, what, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _watch(
    terminal: TextIO, look: Callable[[], tuple[int, int] | None], what: str, over: threading.Event
) -> None:
    drawn = False
    while not over.wait(INTERVAL):
        try:
            seen = look()
        except Exception:  # the answer that is waited for says what is wrong, if anything is
            break
        if seen is not None:
            _draw(terminal, what, *seen)
            drawn = True
    if drawn:
        terminal.write("\n")


def _terminal() -> TextIO | None:
    return sys.stderr if sys.stderr is not None and sys.stderr.isatty() else None


def _draw(terminal: TextIO, what: str, done: int, total: int) -> None:
    # A line that is as wide as the terminal, or wider, would go on in the next and never be drawn over.
    room = (os.get_terminal_size(terminal.fileno()).columns or UNKNOWN_WIDTH) - 1
    count = f"{done}/{total}"
    size = min(WIDTH, room - len(f"{what} [] {count}"))
    if size >= NARROWEST:
        bar = "#" * (size * done // max(total, 1))
        text = f"{what} [{bar:<{size}}] {count}"
    else:
        text = f"{what} {count}" if len(what) + 1 + len(count) <= room else count
    terminal.write(f"\r{text[:room]}")
    terminal.flush()
