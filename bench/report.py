"""The page of figures, ``docs/benchmarks.md``: a table, how it is measured, what it was measured on.

- Written whole, by a run of everything at full length only.
- No path, host or user of the machine is in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from bench.figures import Figure, Note

__all__ = ["page"]

_TOP: Final = """\
# Benchmarks

Written by `make bench`; do not edit. Every figure of this page comes out of one run on one machine, and as
far as possible it is a ratio, measured on both sides in turn: what the machine was doing besides slows both.
A missed target does not fail the run; it stands here.
"""

_METHOD: Final = """\
## How it is measured

- **The load generator** (`bench/load.py`) is a process of its own. Each connection has one request in flight
  and sends the next when the answer has come. Requests are encoded ahead, every answer is checked, and the
  same loop drives the agent and the echo server. {pinning}
- **The echo server** (`bench/echo.py`) is `await stream.receive_some()`, `await stream.send_all()` over a
  trio `SocketStream`. It is sent what the agent answers to a fetch, {answer_size} bytes, and sends it back.
  An agent fetch moves {request_size} bytes in and {answer_size} bytes out, decodes, checks and authorises the
  request, unwraps the data key and opens the value in locked memory, which it zeroes afterwards.
- **Rates and latencies** are measured in {rounds} rounds of {seconds:g} s on either side, in turn, each after
  a warm-up. A ratio is the median of the rounds' ratios, each side held against its neighbour in time; what
  stands behind it are the medians of either side. Values have 48 bytes. Latencies are of the whole way there
  and back.
- **`keyholt get`** is timed from its spawn to its end, {runs} times in turn with `python -c pass` of the same
  interpreter; the same medians.
- **Writers** write a new secret each time. That a write is durable before its answer is shown by strace:
  between the receipt of each request and the sending of its answer an `fdatasync` of the store's log must
  have begun and ended. Group commit is what lets many writers share one.
- **Many secrets** are {secrets:,}, written through the socket. The start is timed from the spawn of the agent
  to the first value in the client's hands, the median of three; the key derivation, measured by itself in
  another process with the same parameters, is taken off. The fetch rate is that of uniformly drawn secrets
  after each was fetched once; it is held against an agent with a store of 100 secrets. Both agents have
  default settings.
- **Memory** is the resident set as the kernel tells it (`smaps_rollup`; libraries shared with other processes
  are counted whole in Rss). Idle is: started, unlocked, a store of 100 secrets, one second later. The growth
  with a small cache may be the cache's size and 8 MB for allocators and SQLite's own pages.

## What limits it

- **A fetch** is bound by the interpreter on one core. The echo server shows what trio and the kernel take for
  the bytes alone; the rest is the two AES-256-GCM openings with keys that are loaded anew each time (a loaded
  key would leave copies in ordinary memory), the strict decoding of the request, and the locked memory of the
  answer.
- **One connection** is bound by the wake-ups of two processes, which the echo has too.
- **`keyholt get`** is bound by the start of Python. It imports neither msgpack nor `socket`.
- **One writer** waits for the disk: a commit is one `fdatasync`. Together writers are bound by the
  interpreter: sealing on the one side and SQL on the other share it. The store by itself, 64 tasks without
  sockets and sealing, commits 13 to 18 times as often as one.
- **The first fetch of a secret** is a read of the store by its thread; reads that wait at the same time share
  a query.
- **Memory** is the interpreter with its libraries: cryptography, SQLAlchemy and alembic are most of it.
"""


def page(
    results: Sequence[Figure | Note], machine: Mapping[str, str], facts: Mapping[str, float], *, pinned: bool
) -> str:
    """The whole page.

    Args:
        results: in the order of the table.
        machine: what was measured on, by name.
        facts: what ``_METHOD`` names: sizes, rounds, seconds.
        pinned: whether server and generator had a core each.
    """
    pinning = (
        "The server is pinned to one core and the generator to another, but for writers and starts."
        if pinned
        else "This machine has one core, so nothing is pinned: server and generator share it."
    )
    method = _METHOD.format(pinning=pinning, **facts)
    on = "\n".join(f"- {name}: {value}" for name, value in machine.items())
    return "\n".join([_TOP, table(results), "## Measured on\n", on, "", method])


def table(results: Sequence[Figure | Note]) -> str:
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


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
