"""A question on the terminal, before something that cannot be taken back."""

from __future__ import annotations

import os
import termios
from typing import Final

from keyholt.cli.descriptors import write_all
from keyholt.cli.errors import UsageError
from keyholt.cli.output import printable

__all__ = ["require_typed"]

TERMINAL: Final = "/dev/tty"
LINE: Final = 4096
"""Bytes that a terminal gives of one line (termios(3))."""


def require_typed(what: str, word: str, option: str) -> None:
    """Say what is about to be done, and go on only if the word is typed.

    Raises:
        OSError: the terminal is gone.
        UsageError: something else was typed, or there is no terminal; ``option`` is what does without.
    """
    try:
        terminal = os.open(TERMINAL, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        raise UsageError(f"{what}, and there is no terminal to ask on; insist with {option}") from None
    try:
        termios.tcflush(terminal, termios.TCIFLUSH)  # what was typed ahead answers no question
        write_all(terminal, f"{printable(what)}; type {printable(word)} to go on: ".encode())
        typed = os.read(terminal, LINE).decode(errors="replace").strip()
    except termios.error as error:  # it is gone
        raise OSError(*error.args) from None
    finally:
        os.close(terminal)
    if typed != word:
        raise UsageError(f"nothing was done: {word!r} was not typed")
