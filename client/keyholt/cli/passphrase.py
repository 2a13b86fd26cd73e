"""Passphrases: from a terminal without echo, a file descriptor or a file; never an argument or a variable.

- A passphrase is one ``bytearray`` from the moment it is read, and the caller wipes it (``wiped``).
- One newline at the end is not part of it. Nothing else is changed, no encoding is assumed.
- Empty and too long ones are refused by the library (``keyholt.invocations``), as for any program.
- The terminal is ``/dev/tty``, so that standard input stays free for a value.
"""

from __future__ import annotations

import os
import termios
from argparse import Namespace
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from keyholt.cli.descriptors import write_all
from keyholt.cli.errors import UsageError
from keyholt_protocol.errors import InvalidRequestError
from keyholt_protocol.limits import MAX_PASSPHRASE

__all__ = ["obtain", "wiped"]

TERMINAL: Final = "/dev/tty"
_NEWLINE: Final = 0x0A
_LFLAG: Final = 3
"""Where tcgetattr(3) has the local modes, ECHO among them."""


@contextmanager
def wiped(passphrase: bytearray) -> Generator[bytearray]:
    """Lend a passphrase for the length of a ``with``, then zero it."""
    try:
        yield passphrase
    finally:
        passphrase[:] = bytes(len(passphrase))


def obtain(
    options: Namespace, prompt: str = "Passphrase", *, prefix: str = "", twice: bool = False
) -> bytearray:
    """The passphrase that the options point to, or that the user types.

    Args:
        options: with ``passphrase_fd`` and ``passphrase_file``, their names beginning with ``prefix``.
        prompt: what to ask for on the terminal.
        prefix: ``new_`` for a new passphrase beside an existing one.
        twice: ask a second time on the terminal, and refuse two that differ.

    Raises:
        UsageError: both are given, or neither is and there is no terminal.
        InvalidRequestError: the two differ.
        OSError: it cannot be read.
    """
    descriptor: int | None = getattr(options, f"{prefix}passphrase_fd")
    file: str | None = getattr(options, f"{prefix}passphrase_file")
    option = f"--{prefix}passphrase".replace("_", "-")
    if descriptor is not None and file is not None:
        raise UsageError(f"give {option}-fd or {option}-file, not both")
    if descriptor is not None:
        try:
            return _read(descriptor)
        except OSError as error:
            raise UsageError(f"{option}-fd {descriptor} cannot be read: {error.strerror}") from None
    if file is not None:
        opened = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return _read(opened)
        finally:
            os.close(opened)
    return _ask(prompt, option, twice=twice)


def _ask(prompt: str, option: str, *, twice: bool) -> bytearray:
    try:
        terminal = os.open(TERMINAL, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        raise UsageError(
            f"there is no terminal to ask on; give {option}-fd N or {option}-file FILE"
        ) from None
    try:
        first = _ask_once(terminal, f"{prompt}: ")
        if twice:
            with wiped(_ask_once(terminal, f"{prompt} again: ")) as second:
                if first != second:
                    first[:] = bytes(len(first))
                    raise InvalidRequestError("the two passphrases differ; begin again")
        return first
    finally:
        os.close(terminal)


def _ask_once(terminal: int, prompt: str) -> bytearray:
    before = termios.tcgetattr(terminal)
    silent = before.copy()
    silent[_LFLAG] &= ~termios.ECHO
    try:
        # Flushing drops what was typed before the prompt, which was echoed.
        termios.tcsetattr(terminal, termios.TCSAFLUSH, silent)
        write_all(terminal, prompt.encode())
        return _read(terminal, until_newline=True)
    finally:
        termios.tcsetattr(terminal, termios.TCSAFLUSH, before)
        write_all(terminal, b"\n")


def _read(descriptor: int, *, until_newline: bool = False) -> bytearray:
    """Read to the end or, on a terminal, to the end of the line, which is cut off."""
    buffer = bytearray(MAX_PASSPHRASE + 2)  # one more than fits with its newline: longer ones are seen to be
    view = memoryview(buffer)
    filled = 0
    while filled < len(buffer) and (size := os.readv(descriptor, [view[filled:]])):
        filled += size
        if until_newline and buffer[filled - 1] == _NEWLINE:
            break
    if filled and buffer[filled - 1] == _NEWLINE:
        filled -= 1
    result = bytearray(view[:filled])
    view[:] = bytes(len(buffer))
    return result
