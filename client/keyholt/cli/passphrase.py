"""Passphrases: from a terminal without echo, a file descriptor or a file; never an argument or a variable.

- A passphrase is one ``bytearray`` from the moment it is read, and the caller wipes it (``wiped``).
- One newline at the end is not part of it. Nothing else is changed, no encoding is assumed.
- Empty and too long ones are refused by the library (``keyholt.invocations``), as for any program.
- The terminal is ``keyholt.cli.terminal``'s, and so is one that is named as a file or a descriptor.
"""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from keyholt.cli.errors import UsageError
from keyholt.cli.terminal import ask
from keyholt_protocol.errors import InvalidRequestError, UnlockFailedError
from keyholt_protocol.limits import MAX_PASSPHRASE

__all__ = ["explained", "obtain", "wiped"]

LEAST_CHARACTERS: Final = 8
"""Of a new passphrase. It keeps out what was typed by mistake or for a try; what a good one is, no rule about
its characters can tell (NIST SP 800-63B, appendix A)."""

_NEWLINE: Final = 0x0A
_CONTINUES: Final = range(0x80, 0xC0)
"""Bytes of a character in UTF-8 after its first."""


@contextmanager
def wiped(passphrase: bytearray) -> Generator[bytearray]:
    """Lend a passphrase for the length of a ``with``, then zero it."""
    try:
        yield passphrase
    finally:
        passphrase[:] = bytes(len(passphrase))


def obtain(
    options: Namespace, prompt: str = "Passphrase", *, prefix: str = "", new: bool = False
) -> bytearray:
    """The passphrase that the options point to, or that the user types; the caller's to wipe.

    Args:
        options: with ``passphrase_fd`` and ``passphrase_file``, their names beginning with ``prefix``, and
            for a new one ``weak``.
        prompt: what to ask for on the terminal.
        prefix: ``new_`` for a new passphrase beside an existing one.
        new: it is held against the floor, and asked for a second time on the terminal.

    Raises:
        UsageError: both are given, or neither is and there is no terminal.
        CancelledError: the user does not want to go on.
        InvalidRequestError: the two that were typed differ, or a new one is below the floor.
        OSError: it cannot be read.
    """
    descriptor: int | None = getattr(options, f"{prefix}passphrase_fd")
    file: str | None = getattr(options, f"{prefix}passphrase_file")
    option = f"--{prefix}passphrase".replace("_", "-")
    check = _require_strength if new and not options.weak else _take_any
    if descriptor is not None and file is not None:
        raise UsageError(f"give {option}-fd or {option}-file, not both")
    try:
        given = None if descriptor is None else _read(descriptor)
    except OSError as error:
        raise UsageError(f"{option}-fd {descriptor} cannot be read: {error.strerror}") from None
    if file is not None:
        opened = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            given = _read(opened)
        finally:
            os.close(opened)
    if given is None:
        instead = f"give {option}-fd N or {option}-file FILE"
        return ask(prompt, MAX_PASSPHRASE, instead=instead, twice=new, check=check)
    try:
        check(given)
    except InvalidRequestError:
        given[:] = bytes(len(given))
        raise
    return given


@contextmanager
def explained(passphrase: bytearray) -> Generator[None]:
    """Say of a passphrase that opens nothing what may be the matter with it."""
    try:
        yield
    except UnlockFailedError as error:
        if not passphrase.endswith(b"\r"):
            raise
        hint = "it ends with a carriage return, as a file with CRLF line ends has: write the file with LF"
        raise UnlockFailedError(f"{error}; {hint}", details=error.details) from None


def _require_strength(passphrase: bytearray) -> None:
    """Hold a new passphrase against the floor.

    Raises:
        InvalidRequestError: it is below.
    """
    characters = sum(byte not in _CONTINUES for byte in passphrase)
    # Of characters of more than a byte, repeated ones are found by their period.
    size = len(passphrase) // max(characters, 1)
    repeated = passphrase == passphrase[:size] * characters
    if passphrase and (characters < LEAST_CHARACTERS or repeated):
        raise InvalidRequestError(
            f"the passphrase is too weak: choose one of {LEAST_CHARACTERS} characters or more that are not "
            "all the same, such as four words chosen by dice, or insist with --weak"
        )


def _take_any(_: bytearray) -> None:
    """There is no floor for a passphrase that exists, or with ``--weak``."""


def _read(descriptor: int) -> bytearray | None:
    """What stands in a file; None if it is a terminal, which is asked instead."""
    if os.isatty(descriptor):
        return None
    buffer = bytearray(MAX_PASSPHRASE + 2)  # one more than fits with its newline: longer ones are seen to be
    view = memoryview(buffer)
    filled = 0
    while filled < len(buffer) and (size := os.readv(descriptor, [view[filled:]])):
        filled += size
    if filled and buffer[filled - 1] == _NEWLINE:
        filled -= 1
    result = bytearray(view[:filled])
    view[:] = bytes(len(buffer))
    return result
