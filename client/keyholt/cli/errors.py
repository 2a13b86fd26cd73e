"""The command line's own mistakes, and the place that an error of the library gets."""

from __future__ import annotations

import copy

from keyholt_protocol.errors import KeyholtError

__all__ = [
    "CancelledError",
    "ClipboardError",
    "EditorError",
    "InputFileError",
    "NamespaceError",
    "TerminalError",
    "UsageError",
    "placed",
]


class UsageError(Exception):
    """The command line cannot be understood; the message says why, and what to write."""


class CancelledError(Exception):
    """Whoever was asked does not want to go on."""

    def __init__(self) -> None:
        super().__init__("cancelled; nothing was changed")


class ClipboardError(ValueError):
    """There is no clipboard, or it did not take a value; the message says what to do."""


class EditorError(ValueError):
    """The editor did not do its part; the message says which, and how it ended."""


class NamespaceError(ValueError):
    """The kernel does not let a program have files of its own; the message says what to allow."""


class InputFileError(ValueError):
    """A file cannot be what it is taken for; the message names it, and the line."""


class TerminalError(ValueError):
    """What is to be written would act on the terminal; the message says what to do."""


def placed(error: KeyholtError, place: str) -> KeyholtError:
    """The same error, its sentence beginning with where it was met."""
    copied = copy.copy(error)
    copied.args = (f"{place}: {error}",)
    return copied
