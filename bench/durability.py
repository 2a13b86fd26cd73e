"""Whether answers to writes left only after the write was on the disk, told from the agent's system calls.

- strace writes down, in order, what the agent receives, sends and syncs.
- The rule: between the receipt of a request and the sending of its answer on the same connection, an
  ``fdatasync`` of the store's log began and ended well. A sync that had begun before the request came proves
  nothing for it.
- An answer to a write is known by its size, which no other answer of the agent has here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

__all__ = ["Shown", "read_trace", "strace_command"]

_CALLS: Final = "recvfrom,sendto,sendmsg,fdatasync,fsync"
_BEGUN: Final = re.compile(r"(?P<task>\d+) +(?P<call>\w+)\((?P<fd>\d+)(?:<(?P<file>[^>]*)>)?")
_RESUMED: Final = re.compile(r"(?P<task>\d+) +<\.\.\. (?P<call>\w+) resumed>")
_RESULT: Final = re.compile(r"= (-?\d+)")
_LOG_SUFFIX: Final = "-wal"


def strace_command(trace: Path) -> list[str]:
    """Runs the command behind it as this process, and traces it from a process beside it."""
    return ["strace", "-D", "-f", "-y", "-qq", "-s", "0", "-o", str(trace), "-e", f"trace={_CALLS}", "--"]


@dataclass(slots=True)
class Shown:
    """What a trace shows.

    Attributes:
        answers: answers to writes.
        early: those of them without a sync between request and answer.
        syncs: ended syncs of the log.
    """

    answers: int = 0
    early: int = 0
    syncs: int = 0

    @property
    def sentence(self) -> str:
        return (
            f"{self.answers:,} answers, {self.syncs:,} fdatasync of the log (strace); {self.early or 'none'} "
            "of the answers left before a sync that began after its request had come"
        )


_Call = tuple[str, int, str, int, int]
"""A call's name, descriptor and file, the line in which it began, and that of the latest sync until then."""


@dataclass(slots=True)
class _Reader:
    answer_size: int
    shown: Shown = field(default_factory=Shown)
    line: int = 0
    last_sync: int = -1  # the line in which the latest sync began of those that have ended
    # By connection, the line of its last request.
    received: dict[int, int] = field(default_factory=dict[int, int])
    open_calls: dict[str, _Call] = field(default_factory=dict[str, _Call])

    def read(self, text: str) -> None:
        self.line += 1
        if begun := _BEGUN.match(text):
            call = (begun["call"], int(begun["fd"]), begun["file"] or "", self.line, self.last_sync)
            if text.rstrip().endswith("<unfinished ...>"):
                self.open_calls[begun["task"]] = call
                return
        elif resumed := _RESUMED.match(text):
            call = self.open_calls.pop(resumed["task"])
        else:
            return
        results = _RESULT.findall(text)
        if results and int(results[-1]) >= 0:
            self._ended(call, int(results[-1]))

    def _ended(self, ended: _Call, result: int) -> None:
        call, descriptor, file, begun, synced = ended
        if call in {"fdatasync", "fsync"} and file.endswith(_LOG_SUFFIX):
            self.last_sync = max(self.last_sync, begun)
            self.shown.syncs += 1
        elif call == "recvfrom" and result > 0:
            self.received[descriptor] = self.line
        elif call in {"sendto", "sendmsg"} and result == self.answer_size and descriptor in self.received:
            self.shown.answers += 1
            # What was synced when the sending began: the next batch's sync may end before the sending does.
            self.shown.early += not self.received[descriptor] < synced


def read_trace(trace: Path, answer_size: int) -> Shown:
    """What a finished trace shows, of answers with so many bytes."""
    reader = _Reader(answer_size)
    with trace.open("r", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            reader.read(line)
    return reader.shown
