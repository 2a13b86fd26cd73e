"""The value that `put` writes: from a file, from standard input, or typed.

- From a file or a pipe it is taken as it is. On a terminal it is one line, typed unseen and twice, without
  its newline; or many lines, unseen up to Ctrl-D, as they are.
- An empty one is refused unless it is asked for: it is what a program leaves that failed before a pipe.
- It is the caller's to wipe, and no copy is left elsewhere.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from keyholt.cli.descriptors import STANDARD, read_all
from keyholt.cli.errors import InputFileError, UsageError
from keyholt.cli.terminal import ask, ask_lines
from keyholt_protocol.limits import MAX_VALUE

__all__ = ["GIVEN", "read_value"]

GIVEN = "give the value by --file, on standard input or when asked"
"""How a value is given, for whoever writes it on the command line."""

_Value = bytearray | memoryview


def read_value(
    path: str, file: str | None, ready: Callable[[], None], *, multiline: bool, allow_empty: bool
) -> _Value:
    """The value for ``path``; at most a little more than is allowed, so that it is refused.

    Args:
        path: named in the question.
        file: where it stands; ``None`` and ``-`` are standard input.
        ready: raises, before anybody is asked, why it could not be written.
        multiline: on a terminal, take many lines.
        allow_empty: an empty value is meant.

    Raises:
        CancelledError: whoever was asked does not want to go on.
        InputFileError: there is nothing to be read, and that was not allowed.
        InvalidRequestError: the two that were typed differ.
        OSError: the file cannot be read.
        UsageError: standard input is closed.
    """
    file = None if file == STANDARD else file
    if file is None and sys.stdin is None:
        raise UsageError("standard input is closed; give --file FILE")
    with open(0 if file is None else file, "rb", buffering=0, closefd=file is not None) as stream:
        typed = os.isatty(stream.fileno())
        value: _Value = bytearray() if typed else read_all(stream.fileno(), MAX_VALUE)
    if typed:
        ready()
        value = _ask(f"Value of {path}", multiline=multiline)
    if not value and not allow_empty:
        called = "standard input" if file is None else file
        problem = "the value is empty" if typed else f"{called} is empty, as after a program that failed"
        raise InputFileError(f"{problem}; nothing was written; --allow-empty writes an empty value")
    return value


def _ask(question: str, *, multiline: bool) -> bytearray:
    if multiline:
        return ask_lines(question, MAX_VALUE, instead="give --file FILE")
    return ask(question, MAX_VALUE, instead="give --file FILE, or --multiline", twice=True)
