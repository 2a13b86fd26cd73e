"""The page of figures, ``docs/benchmarks.md``: a table, its costs, what it was measured on, and how.

- Written whole, by a run of everything at full length only. The prose is that of ``bench/method.in.md``.
- No path, host or user of the machine is in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from bench.figures import Cost, Figure, Note, Result

__all__ = ["page"]

_METHOD: Final = Path(__file__).with_name("method.in.md")

_TOP: Final = """\
# Benchmarks

Written by `make bench`; do not edit. Every figure of this page comes out of one run on one machine, and as
far as possible it is a ratio, measured on both sides in turn: what the machine was doing besides slows both.
A missed target does not fail the run; it stands here.
"""


def page(
    results: Sequence[Result], machine: Mapping[str, str], facts: Mapping[str, float], *, pinned: bool
) -> str:
    """The whole page.

    Args:
        results: in the order of the table.
        machine: what was measured on, by name.
        facts: what ``method.in.md`` names: rounds, seconds, counts.
        pinned: whether server and generator had a core each.
    """
    pinning = (
        "The server is pinned to one core and the generator to another, but for writers and starts."
        if pinned
        else "This machine has one core, so nothing is pinned: server and generator share it."
    )
    method = _METHOD.read_text("utf-8").format(pinning=pinning, **facts)
    on = "\n".join(f"- {name}: {value}" for name, value in machine.items())
    return "\n".join([_TOP, _table(results), _costs(results), "## Measured on\n", on, "", method])


def _table(results: Sequence[Result]) -> str:
    """The figures as a table in Markdown, notes as a list below it."""
    lines = ["| figure | target | reached | verdict | behind it |", "|---|---|---|---|---|"]
    lines += [
        f"| {one.title} | {one.target_text} | {one.value_text} | {one.verdict} | {one.measured} |"
        for one in results
        if isinstance(one, Figure)
    ]
    lines.append("")
    for one in results:
        if isinstance(one, Note):
            verdict = f" **{one.verdict}**: " if one.verdict else " "
            lines.append(f"- {_capital(one.title)}:{verdict}{one.text}.")
    return "\n".join([*lines, ""])


def _costs(results: Sequence[Result]) -> str:
    lines = [f"- {_capital(one.title)}: {one.text}." for one in results if isinstance(one, Cost)]
    return "\n".join(["## What they cost\n", *lines, ""])


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
