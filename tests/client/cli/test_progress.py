"""A progress bar fits into its terminal, so that it is drawn over and never goes on in the next line."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import pytest

from keyholt.cli.progress import _draw


@contextmanager
def terminal(columns: int) -> Iterator[tuple[int, TextIO]]:
    """A terminal of so many columns: where what it shows is read, and where it is written."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 24, columns, 0, 0))
    try:
        with os.fdopen(slave, "w") as stream:
            yield master, stream
    finally:
        os.close(master)


@pytest.mark.parametrize(
    "columns,shown",
    [
        (0, "importing [###############               ] 50/100"),
        (60, "importing [###############               ] 50/100"),
        (30, "importing [#####     ] 50/100"),
        (20, "importing 50/100"),
        (10, "50/100"),
        (4, "50/"),
    ],
)
def test_a_bar_fits(columns: int, shown: str) -> None:
    """It becomes shorter, and then only the numbers are left."""
    with terminal(columns) as (master, stream):
        _draw(stream, "importing", 50, 100)
        assert os.read(master, 1000).decode() == f"\r{shown}"
