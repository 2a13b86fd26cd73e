"""The newline that `echo` and editors put behind a value, and that nobody means."""

from __future__ import annotations

__all__ = ["ends_a_line", "trimmed"]

_LINE_ENDS = b"\r\n"
_NEWLINE = 0x0A


def trimmed(value: bytearray | memoryview) -> memoryview:
    """The value without the line ends behind it; the same memory."""
    size = len(value)
    while size and value[size - 1] in _LINE_ENDS:
        size -= 1
    return memoryview(value)[:size]


def ends_a_line(value: bytearray | memoryview) -> bool:
    """Whether the value is one line with its end; of a text of several lines the last newline is a part."""
    view = memoryview(value)
    return bool(view) and view[-1] == _NEWLINE and _NEWLINE not in view[:-1]
