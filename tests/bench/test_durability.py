"""The check that the benchmark makes of its traces: it passes what is durable and catches what is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.durability import read_trace

ANSWER = 47
REQUEST = '1 recvfrom(9<socket:[5]>, ""..., 65536, 0, NULL, NULL) = 90'
SYNC = "2 fdatasync(7</x/store.db-wal>) = 0"
SENDING = "1 sendmsg(9<socket:[5]>, {msg_iovlen=1}, 0 <unfinished ...>"
SENT = f"1 <... sendmsg resumed>) = {ANSWER}"


@pytest.mark.parametrize(
    "lines, early",
    [
        ([REQUEST, SYNC, SENDING, SENT], 0),
        ([REQUEST, SYNC, SENDING, SYNC, SENT], 0),  # the next batch's sync changes nothing
        ([SYNC, REQUEST, SENDING, SENT], 1),  # a sync from before the request proves nothing
        ([REQUEST, SENDING, SYNC, SENT], 1),  # nor does one that comes after the sending began
        ([REQUEST, "2 fdatasync(7</x/store.db-wal>) = -1 EIO", SENDING, SENT], 1),
        ([REQUEST, SYNC.replace("-wal", ""), SENDING, SENT], 1),  # of another file
    ],
)
def test_answers_are_held_against_syncs(tmp_path: Path, lines: list[str], early: int) -> None:
    """An answer is early unless a sync of the log lies between its request and its sending."""
    trace = tmp_path / "trace"
    trace.write_text("\n".join(lines) + "\n", encoding="utf-8")
    shown = read_trace(trace, ANSWER)
    assert (shown.answers, shown.early) == (1, early)
