"""Keeps generated files what they would be generated as: writes them, or says which ones differ.

What they hold is the business of each tool; this is how all of them are called.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["keep"]

ROOT: Final = Path(__file__).resolve().parent.parent


def keep(tool: str, arguments: Sequence[str], files: Callable[[], Mapping[Path, str]]) -> int:
    """Write the files, or with ``--check`` compare them; gives the exit status, 1 for one that differs.

    Args:
        tool: its name, for the usage.
        files: makes the text of each file.
    """
    if list(arguments) not in ([], ["--check"]):
        print(f"usage: {tool} [--check]", file=sys.stderr)
        return 2
    status = 0
    for target, text in files().items():
        if not arguments:
            target.write_text(text, "utf-8")
        elif not target.is_file() or target.read_text("utf-8") != text:
            name = os.path.relpath(target, ROOT)
            remedy = "run `make generate` and look at what changed"
            print(f"{name} is not what the code says; {remedy}", file=sys.stderr)
            status = 1
    return status
