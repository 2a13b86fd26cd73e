"""What every scenario is given: a directory, the cores, how long to measure, a place to say what goes on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from bench.figures import Figure, Note
from bench.load import Job, Measured
from bench.machine import Cores
from bench.processes import run_load

__all__ = ["MANY", "Scenario", "Scene", "medians", "paired"]

MANY: Final = 64
"""Connections of every figure that speaks of many clients or writers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Where and how long to measure.

    Attributes:
        directory: on a disk; everything is written below it.
        cores: where the server and the generator run.
        rounds: how often each side of a ratio is measured, in turn.
        seconds: of one such measurement.
        secrets: how many "many secrets" are.
    """

    directory: Path
    cores: Cores
    rounds: int = 9
    seconds: float = 1.0
    secrets: int = 100_000

    @property
    def warmup(self) -> float:
        """Seconds before each measurement that are not counted."""
        return 0.15 * self.seconds

    def fresh(self, name: str) -> Path:
        """A new directory."""
        path = self.directory / name
        path.mkdir()
        return path

    def say(self, text: str) -> None:
        print(f"  {text}", file=sys.stderr, flush=True)

    def in_turn(self, one: Callable[[int], Job], other: Callable[[int], Job]) -> tuple[list[Measured], ...]:
        """Measure two jobs in turn, A B A B, so that what else the machine does hits both; by round."""
        results: tuple[list[Measured], list[Measured]] = ([], [])
        for number in range(self.rounds):
            for job, measured in zip((one, other), results, strict=True):
                measured.append(run_load(job(number)))
        return results


Scenario = Callable[[Scene], Sequence[Figure | Note]]


def medians(measured: Sequence[Measured]) -> tuple[float, float]:
    """The medians of the rates (a second) and of the p50 latencies (microseconds)."""
    return median(one.rate for one in measured), median(one.p50 for one in measured)


def paired(ones: Iterable[float], others: Iterable[float]) -> float:
    """How many times the other the one is: the median of the rounds, each against its neighbour in time."""
    return median(one / other for one, other in zip(ones, others, strict=True))
