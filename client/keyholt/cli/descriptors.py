"""Reading from a file descriptor and writing to one: all of it, or an ``OSError`` that says why not.

- `keyholt get` goes through here: nothing is imported but built-in modules.
- Nothing is printed through ``sys.stdout`` anywhere: what could not be written is known before the exit
  status is.
"""

from __future__ import annotations

import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ["STANDARD", "STDERR", "STDOUT", "read_all", "write_all"]

STDOUT: Final = 1
STDERR: Final = 2

STANDARD: Final = "-"
"""Where a file can be named: standard input to read, standard output to write."""


def write_all(descriptor: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of ``data``.

    Raises:
        OSError: it could not be written, or not to its end.
    """
    rest = memoryview(data)
    while rest:
        rest = rest[posix.write(descriptor, rest) :]


def read_all(descriptor: int, enough: int | None = None) -> memoryview:
    """What can be read up to the end, the caller's to wipe, and no copy left elsewhere; where ``enough`` is
    given, no more than a little beyond so many bytes.

    Raises:
        OSError: it cannot be read.
    """
    buffer, filled = bytearray(1024 * 1024), 0
    while (enough is None or filled <= enough) and (
        size := posix.readv(descriptor, [memoryview(buffer)[filled:]])
    ):
        filled += size
        if filled == len(buffer):
            # By hand: a bytearray that grows by itself leaves what it held where it lay before.
            larger = bytearray(2 * filled)
            larger[:filled] = buffer
            buffer[:] = bytes(filled)
            buffer = larger
    return memoryview(buffer)[:filled]
