"""Writing to a file descriptor: all of it, or an ``OSError`` that says why not.

- `keyholt get` goes through here: nothing is imported but built-in modules.
- Nothing is printed through ``sys.stdout`` anywhere: what could not be written is known before the exit
  status is.
"""

from __future__ import annotations

import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ["STDERR", "STDOUT", "write_all"]

STDOUT: Final = 1
STDERR: Final = 2


def write_all(descriptor: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of ``data``.

    Raises:
        OSError: it could not be written, or not to its end.
    """
    rest = memoryview(data)
    while rest:
        rest = rest[posix.write(descriptor, rest) :]
