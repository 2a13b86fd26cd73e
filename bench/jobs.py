"""What a load generator is told to do, and what came of it."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import Final, Literal

__all__ = ["STALL", "Job", "Kind", "LoadError", "Measured", "Tally"]

Kind = Literal["get", "put", "page", "echo", "visit", "visit-echo", "library", "append"]

STALL: Final = 30.0
"""Seconds without any answer after which the server is taken for dead."""

_NS: Final = 1_000_000_000


class LoadError(Exception):
    """An answer was wrong, or none came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to do.

    Attributes:
        place: path of the server's socket; of the file for ``append``.
        kind: what is asked for, and how; see ``bench.load``.
        connections: open at once.
        first: number of the first secret.
        count: secrets, from ``first`` on.
        order: ``random``: uniformly drawn, until the time is over; ``once``: each once, or until the time is
            over.
        seconds: of measuring; 0 for as long as it takes.
        warmup: seconds before that.
        core: to run on; None for any.
        answer_size: bytes that an echo goes there and back with.
        greeting_size: likewise, of the first exchange of an echoed visit.
    """

    place: str
    kind: Kind
    connections: int = 1
    first: int = 0
    count: int = 1
    order: Literal["random", "once"] = "random"
    seconds: float = 0
    warmup: float = 0
    core: int | None = None
    answer_size: int = 0
    greeting_size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What came of it.

    Attributes:
        answers: in the measured time.
        seconds: that time.
        p50: latency, microseconds; likewise ``p99``.
        total: answers, the warm-up's included.
        busy: share of a core that the generator took; near 1 it was the generator that set the rate.
        answer_size: bytes of the last answer.
        greeting_size: bytes of the answer to the last greeting; 0 where there was none.
    """

    answers: int
    seconds: float
    p50: float
    p99: float
    total: int
    busy: float
    answer_size: int
    greeting_size: int

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answers / self.seconds


@dataclass(slots=True)
class Tally:
    """Counts answers; those before the warm-up has ended are checked and not counted.

    Attributes:
        until: time in nanoseconds after which nothing more is asked.
    """

    job: Job
    total: int = 0
    answer_size: int = 0
    greeting_size: int = 0
    until: int = field(init=False)
    _latencies: list[int] = field(init=False, default_factory=list[int])
    _from: int = field(init=False)
    _last: int = field(init=False)
    _processor: float = field(init=False)
    _begun: int = field(init=False)

    def __post_init__(self) -> None:
        # What was prepared stays; looking through it again and again would show in the latencies.
        gc.collect()
        gc.freeze()
        self._processor = time.process_time()
        self._begun = self._last = perf_counter_ns()
        self._from = self._begun + int(self.job.warmup * _NS)
        self.until = self._from + int(self.job.seconds * _NS) if self.job.seconds else sys.maxsize

    def answered(self, began: int, now: int) -> None:
        """An answer came ``now`` to what was sent when it ``began``."""
        self.total += 1
        if self._from <= now < self.until:
            self._latencies.append(now - began)
            self._last = now

    def result(self) -> Measured:
        """All of it.

        Raises:
            LoadError: nothing was answered in the time that was measured.
        """
        if not self._latencies:
            raise LoadError("nothing was answered in the time that was measured")
        latencies = sorted(self._latencies)
        return Measured(
            answers=len(latencies),
            seconds=(self._last - self._from) / _NS,
            p50=_quantile(latencies, 0.50) / 1000,
            p99=_quantile(latencies, 0.99) / 1000,
            total=self.total,
            busy=(time.process_time() - self._processor) * _NS / (perf_counter_ns() - self._begun),
            answer_size=self.answer_size,
            greeting_size=self.greeting_size,
        )


def _quantile(ordered: Sequence[int], share: float) -> int:
    return ordered[int(len(ordered) * share)]
