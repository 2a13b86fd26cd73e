"""Draws the pictures of the documents: each ``docs/pictures/*.dot`` as the SVG beside it.

Usage: ``python tools/pictures.py [--check]``; with ``--check`` it draws nothing, and exits with 1 when a
picture was not drawn from the source beside it.

Graphviz draws (the program ``dot``; Debian: ``apt install graphviz fonts-dejavu-core``). Another version of
it places things otherwise, so a picture is not drawn anew to be checked: it says what it was drawn from.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

__all__ = ["PICTURES", "drawn", "is_of", "main"]

PICTURES: Final = Path(__file__).resolve().parent.parent / "docs/pictures"

_SOURCE: Final = "<!-- drawn from {name} with the SHA-256 {digest} -->\n"


def main(arguments: list[str]) -> int:
    """Draw what has changed, or check all; gives the exit status."""
    if arguments not in ([], ["--check"]):
        print("usage: pictures.py [--check]", file=sys.stderr)
        return 2
    stale = [source for source in sorted(PICTURES.glob("*.dot")) if not is_of(source)]
    if not arguments:
        return _draw(stale)
    for source in stale:
        print(f"docs/pictures/{source.stem}.svg is not of its source; run `make generate`", file=sys.stderr)
    return bool(stale)


def is_of(source: Path) -> bool:
    """Whether the picture beside a source was drawn from it."""
    picture = source.with_suffix(".svg")
    return picture.is_file() and picture.read_text("utf-8").startswith(_marked(source))


def drawn(source: Path) -> str:
    """The picture of a source, without what says which Graphviz drew it.

    Raises:
        FileNotFoundError: there is no Graphviz.
        CalledProcessError: it does not take the source.
    """
    command = ["dot", "-Tsvg", str(source)]
    svg = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    return _marked(source) + re.sub(r"<!--.*?-->\n?", "", svg[svg.index("<svg") :], flags=re.DOTALL)


def _marked(source: Path) -> str:
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    return _SOURCE.format(name=source.name, digest=digest)


def _draw(sources: list[Path]) -> int:
    for source in sources:
        try:
            source.with_suffix(".svg").write_text(drawn(source), "utf-8")
        except FileNotFoundError:
            print("no Graphviz to draw with: `apt install graphviz fonts-dejavu-core`", file=sys.stderr)
            return 1
        except subprocess.CalledProcessError as error:
            print(f"{source.name}: {error.stderr.strip()}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
