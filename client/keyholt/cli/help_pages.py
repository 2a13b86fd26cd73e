"""What the help of each command says, as it was made beforehand: making it takes ten times as long.

``help_pages.txt`` is made from the parsers by `make generate`: change the table of commands.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ["MARK", "page"]

MARK: Final = "\f"
"""Before each page of the file, and before what it is called, which is its first line."""


def page(words: list[str]) -> str | None:
    """The help of a command, of a group of them, or of the whole; ``None`` where there is no such one."""
    with open(f"{__file__.removesuffix('.py')}.txt", encoding="utf-8") as file:
        pages = file.read()
    called = " ".join(["keyholt", *words])
    _, found, text = pages.partition(f"{MARK}{called}\n")
    return text.partition(MARK)[0] if found else None
