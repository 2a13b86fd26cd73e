r"""Whether a value, written to a terminal, is shown and does nothing else.

- A terminal acts on escape sequences: they change its title, its colours, what stands on it, and in some what
  is typed next. A value is whatever somebody wrote. So text is harmless, with its tabs and line ends (``\n``
  and ``\r\n``); what is not printable is not, direction marks among it.
- `keyholt get` on a terminal goes through here: nothing is imported.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ["INSIST", "harmless"]

_PLAIN: Final = bytes(range(0x20, 0x7F)) + b"\t\n"

INSIST: Final = "is not plain text, and a terminal may act on it; redirect it to a file or a program"
"""Said of a value that is not; where there is an option that insists, it follows."""


def harmless(value: bytes | bytearray) -> bool:
    """Whether the value may go to a terminal."""
    # Only what is not plain is left, so that of most values nothing is copied.
    rest = value.translate(None, _PLAIN)
    if not rest:
        return True
    if rest.isascii() and rest.count(b"\r") < len(rest):
        return False
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return False
    return text.replace("\r\n", "").replace("\n", "").replace("\t", "").isprintable()
