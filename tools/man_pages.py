"""Writes docs/man/man1: man pages of ``keyholt`` and its commands, from the table that its parser is of.

Usage: ``python tools/man_pages.py [--check]``; with ``--check`` it writes nothing, and exits with 1 when the
pages are not what it would write. The one of ``keyholt-agent``, in ``man8``, is written by hand.

The language is man(7).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "client"), str(ROOT / "protocol")]

from keyholt.cli.command import Command, Kind, Parameter  # noqa: E402
from keyholt.cli.table import COMMANDS, EPILOG, GLOBAL  # noqa: E402
from tools.command_reference import usage_of  # noqa: E402
from tools.generated import keep  # noqa: E402

__all__ = ["main", "pages"]

TARGET: Final = ROOT / "docs/man/man1"

_MARK: Final = '.\\" Made from the table of commands (client/keyholt/cli/table.py) by `make generate`.\n'
_CODE: Final = re.compile(r"`([^`]+)`")


def main(arguments: list[str]) -> int:
    """Write the pages, or check them; gives the exit status."""
    wanted = {TARGET / name: text for name, text in pages().items()}
    status = keep("man_pages.py", arguments, lambda: wanted)
    for page in set(TARGET.iterdir()) - wanted.keys():
        if arguments:
            print(f"{page.name} is of no command; run `make generate`", file=sys.stderr)
            status = 1
        else:
            page.unlink()
    return status


def pages() -> dict[str, str]:
    """Every page by the name of its file."""
    made = {"keyholt.1": _MARK + "\n".join(_overview()) + "\n"}
    for command in COMMANDS:
        made[f"{_page(command)}.1"] = _MARK + "\n".join(_of_command(command)) + "\n"
    return made


def _overview() -> Iterator[str]:
    yield from _head("keyholt", "fetches secrets from the credential agent, and manages them")
    yield from (".SH SYNOPSIS", ".B keyholt", r"[\fIOPTION\fR]... \fICOMMAND\fR [\fIARGUMENT\fR]...")
    yield from (".SH COMMANDS",)
    for command in COMMANDS:
        yield from (".TP", f"\\fB{_text(_page(command))}\\fR(1)", _text(command.help))
    yield from (".SH OPTIONS", "Of every command, before it or after it:")
    yield from _parameters(GLOBAL)
    title, *rest = re.split(r"^(\S[^\n]*):\n", EPILOG, flags=re.MULTILINE)
    if title:
        raise AssertionError("the help's last part begins with no heading")
    for heading, body in zip(rest[::2], rest[1::2], strict=True):
        yield from (f".SH {_text(heading.upper())}", ".nf", *_lines(body), ".fi")
    yield from (".SH SEE ALSO", r"\fBkeyholt\-agent\fR(8)")


def _of_command(command: Command) -> Iterator[str]:
    yield from _head(_page(command), command.help)
    words = f".B keyholt {_text(' '.join(command.words))}"
    yield from (".SH SYNOPSIS", words, _text(" ".join(usage_of(command))))
    yield from (".SH DESCRIPTION", _text(command.help))
    if command.parameters:
        yield ".SH OPTIONS"
        yield from _parameters(command.parameters)
    yield from (
        ".PP",
        r"Options of every command, where the agent is looked for, and exit statuses: \fBkeyholt\fR(1).",
        ".SH JSON",
        f"With \\fB\\-\\-json\\fR it prints {_text(command.json)}.",
        ".SH SEE ALSO",
        r"\fBkeyholt\fR(1), \fBkeyholt\-agent\fR(8)",
    )


def _head(name: str, sentence: str) -> Iterator[str]:
    # What apropos shows is one line without a full stop (man-pages(7)).
    first = _text(sentence.partition(". ")[0].rstrip("."))
    yield f'.TH "{_text(name.upper())}" "1" "" "keyholt" "Keyholt"'
    yield from (".SH NAME", f"{_text(name)} \\- {first}")


def _parameters(parameters: Sequence[Parameter]) -> Iterator[str]:
    for one in parameters:
        names = ", ".join(f"\\fB{_text(name)}\\fR" for name in one.names)
        if one.is_option and one.kind is not Kind.FLAG:
            names += f" \\fI{_text(one.metavar or 'VALUE')}\\fR"
        yield from (".TP", names, _text(one.help))


def _page(command: Command) -> str:
    return "-".join(("keyholt", *command.words))


def _lines(body: str) -> Iterator[str]:
    for line in body.strip("\n").split("\n"):
        yield _text(line) if line.strip() else ".sp"


def _text(text: str) -> str:
    """Running text: nothing in it is taken for a request, a dash is one to be copied, code is bold."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-")
    escaped = _CODE.sub(r"\\fB\1\\fR", escaped)
    return "\\&" + escaped if escaped.startswith((".", "'")) else escaped


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
