"""A program on a terminal of its own, driven as a person would: wait for what it shows, then type."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["Terminal"]

PATIENCE = 30.0
"""Seconds for something to be shown."""

_TAKE_TERMINAL = """
import fcntl, os, signal, sys, termios
for number in (signal.SIGINT, signal.SIGQUIT):  # a shell has what it starts in the background ignore them
    signal.signal(number, signal.SIG_DFL)
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""


class Terminal:
    """Runs ``command`` with a pseudo-terminal as its controlling one."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], cwd: Path | None = None) -> None:
        self.shown = b""
        self._master, slave = pty.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _TAKE_TERMINAL, *command],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**env, "TERM": "dumb"},
            cwd=cwd,
            start_new_session=True,
        )
        os.close(slave)

    def wait_for(self, text: str, *, after: int = 0) -> int:
        """Wait until the text has been shown past the place ``after``; gives the place behind it."""
        deadline = time.monotonic() + PATIENCE
        while (place := self.shown.find(text.encode(), after)) < 0:
            assert self._read(deadline - time.monotonic()), f"{text!r} is not in {self.shown!r}"
        return place + len(text.encode())

    def look(self) -> None:
        """Take in what is shown, if anything is, within a moment."""
        self._read(0.05)

    def type(self, text: str) -> None:
        """Type, without waiting."""
        os.write(self._master, text.encode())

    def modes(self) -> list[Any]:
        """The terminal's modes, as tcgetattr(3) has them."""
        return termios.tcgetattr(self._master)

    def send(self, number: int) -> None:
        """Send the program a signal."""
        self._process.send_signal(number)

    def resize(self, rows: int, columns: int) -> None:
        """Give the terminal another size."""
        termios.tcsetwinsize(self._master, (rows, columns))

    def end(self) -> int:
        """Wait for the program's end; gives its status."""
        while self._read(PATIENCE):
            pass
        return self._process.wait(PATIENCE)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)

    def _read(self, seconds: float) -> bool:
        if not select.select([self._master], [], [], max(0.0, seconds))[0]:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # EIO: nobody has the terminal open any more
            return False
        self.shown += data
        return bool(data)
