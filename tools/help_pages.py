"""Writes client/keyholt/cli/help_pages.txt: what the help of each command says, from its parser.

Usage: ``python tools/help_pages.py [--check]``; with ``--check`` it writes nothing, and exits with 1 when the
file is not what it would write.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "client"), str(ROOT / "protocol")]

from keyholt.cli.help_pages import MARK  # noqa: E402
from keyholt.cli.parser import help_pages  # noqa: E402
from tools.generated import keep  # noqa: E402

__all__ = ["main", "text"]

TARGET: Final = ROOT / "client/keyholt/cli/help_pages.txt"


def main(arguments: list[str]) -> int:
    """Write the file, or check it; gives the exit status."""
    return keep("help_pages.py", arguments, lambda: {TARGET: text()})


def text() -> str:
    """The whole file."""
    return "".join(f"{MARK}{called}\n{page}" for called, page in help_pages().items())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
