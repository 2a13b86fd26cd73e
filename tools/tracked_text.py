"""Looks through the project's files for what holds on one machine only: a registry's host, a home folder.

Usage: ``python tools/tracked_text.py``; exits with 1 and names each place.

- Looks at what git tracks and at new files that it does not ignore, text and binary alike.
- Where packages come from, and where the project lies, is for each machine to say.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

__all__ = ["find_machine_bound_text", "project_files"]

# Written in pieces, so that this file passes its own check.
REGISTRIES: Final = (
    r"pypi\." + r"(?:org|python)",
    r"files\.python" + r"hosted",
    r"registry\.(?:npm" + r"js|yarnpkg)",
    r"(?:deb|security|ftp)\." + r"debian\.org",
    r"--(?:extra-)?index" + r"-url[ =]+\w+:",
    r"_INDEX" + r"_URL=\w+:",
)
HOMES: Final = (r"/(?:home|Users)/" + r"[A-Za-z0-9_][\w.-]*/", r"(?<![\w.])/root" + r"/[\w.]")

MACHINE_BOUND: Final = re.compile("|".join((*REGISTRIES, *HOMES)).encode("ascii"))


def find_machine_bound_text(name: str, content: bytes) -> list[str]:
    """Returns ``FILE:LINE: TEXT`` for each place in one file."""
    found: list[str] = []
    for match in MACHINE_BOUND.finditer(content):
        line = content.count(b"\n", 0, match.start()) + 1
        found.append(f"{name}:{line}: {match.group().decode('ascii', 'replace')}")
    return found


def project_files(root: Path) -> list[str]:
    """Returns the paths, from the root, of every file that belongs to the project."""
    # A clone may belong to another user than the one who checks it: git would refuse to read it.
    git = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
    listing = subprocess.run(
        [*git, "--cached", "--others", "--exclude-standard"], cwd=root, check=True, stdout=subprocess.PIPE
    ).stdout
    return [name for name in listing.decode("utf-8").split("\0") if name and (root / name).is_file()]


def main() -> int:
    """Checks every file; returns the exit status."""
    root = Path(__file__).parent.parent
    names = project_files(root)
    found = [line for name in names for line in find_machine_bound_text(name, (root / name).read_bytes())]
    for line in found:
        print(line, file=sys.stderr)
    print(f"{len(names)} files looked through, {len(found)} machine-bound words found")
    return 1 if found or not names else 0


if __name__ == "__main__":
    sys.exit(main())
