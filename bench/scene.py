"""What every scenario is given: a directory, the cores, how long to measure, stores, a place to say what goes
on; and how a ratio is made of what was measured.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

from bench.agent import AgentProcess
from bench.figures import Result
from bench.jobs import Job, Kind, Measured
from bench.machine import Cores
from bench.processes import ServerProcess, run_load

__all__ = ["FEW", "MANY", "MB", "Costed", "Scenario", "Scene", "medians", "paired", "saturated"]

MANY: Final = 64
"""Connections of every figure that speaks of many clients or writers."""

FEW: Final = 100
"""Secrets of a small store."""

MB: Final = 1_000_000

BLOCK: Final = 100_000
"""Writes of one job: so many requests are encoded ahead in the generator's memory."""

SATURATED: Final = 0.9
"""Share of its core above which a generator may be what sets the rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Where and how long to measure.

    Attributes:
        directory: on a disk; everything is written below it.
        cores: where the server and the generator run.
        rounds: how often each side of a ratio is measured, in turn.
        seconds: of one such measurement.
        secrets: how many "many secrets" are.
        million: how many are very many.
    """

    directory: Path
    cores: Cores
    rounds: int = 9
    seconds: float = 1.0
    secrets: int = 100_000
    million: int = 1_000_000
    _stores: dict[int, Path] = field(default_factory=dict[int, Path])

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

    def store(self, secrets: int) -> Path:
        """The directory of an agent with so many secrets; made once, used by one agent at a time."""
        if secrets not in self._stores:
            directory = self.fresh(f"store-{secrets}")
            with AgentProcess(directory) as agent:
                agent.init()
                self.fill(agent, secrets)
            self._stores[secrets] = directory
        return self._stores[secrets]

    def fill(self, agent: AgentProcess, secrets: int) -> None:
        """Write the first so many secrets."""
        if secrets > FEW:
            self.say(f"{secrets:,} secrets written by {MANY} connections")
        for first in range(0, secrets, BLOCK):
            self.once(agent, "put", first, min(BLOCK, secrets - first))

    def once(
        self, agent: AgentProcess, kind: Kind, first: int, count: int, connections: int = MANY
    ) -> Measured:
        """Ask for each of ``count`` secrets once."""
        return run_load(
            Job(
                place=agent.socket,
                kind=kind,
                connections=min(connections, count),
                first=first,
                count=count,
                order="once",
                core=self.cores.load,
            )
        )

    def timed(self, place: str, kind: Kind, connections: int, secrets: int = FEW, first: int = 0) -> Job:
        """A job that ends with its time: ``secrets`` are drawn from at random, from ``first`` on."""
        return Job(
            place=place,
            kind=kind,
            connections=connections,
            first=first,
            count=secrets,
            seconds=self.seconds,
            warmup=self.warmup,
            core=self.cores.load,
        )

    def in_turn(self, *sides: Callable[[int], Job]) -> list[list[Measured]]:
        """Measure jobs in turn, A B A B, so that what else the machine does hits all; by side, then round."""
        results: list[list[Measured]] = [[] for _ in sides]
        for number in range(self.rounds):
            for job, measured in zip(sides, results, strict=True):
                measured.append(run_load(job(number)))
        return results


Scenario = Callable[[Scene], Sequence[Result]]


class Costed:
    """Processor time that a server takes for each answer, which other load changes less than a rate."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self._before = server.processor_time()

    def each(self, measured: Iterable[Measured]) -> float:
        """Microseconds an answer, since this was made."""
        return (self._server.processor_time() - self._before) * 1e6 / sum(one.total for one in measured)


def medians(measured: Sequence[Measured]) -> tuple[float, float]:
    """The medians of the rates (a second) and of the p50 latencies (microseconds)."""
    return median(one.rate for one in measured), median(one.p50 for one in measured)


def paired(ones: Iterable[float], others: Iterable[float]) -> float:
    """How many times the other the one is: the median of the rounds, each against its neighbour in time."""
    return median(one / other for one, other in zip(ones, others, strict=True))


def saturated(name: str, measured: Sequence[Measured]) -> str:
    """A remark where the generator took nearly all of its core, so that it may have set the rate itself."""
    busy = median(one.busy for one in measured)
    return f"; the generator took {busy:.0%} of a core for {name}" if busy >= SATURATED else ""
