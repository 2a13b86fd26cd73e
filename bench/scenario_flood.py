"""A quiet client beside a flood of the worst that is allowed, as the agent itself measures it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Final, Self

from bench.agent import AgentProcess
from bench.figures import Bound, Figure, Result
from bench.flooders import LARGE_PATH, LARGE_VALUE
from bench.processes import PATIENCE, POLL, ROOT, BenchError, run_load
from bench.scene import FEW, Scene, paired

import keyholt

__all__ = ["flood"]

FLOODERS: Final = 100
"""Connections of a flood."""

KINDS: Final = {
    "frames": "the worst frames",
    "least": "the shortest frames",
    "pages": "pages of 200",
    "values": "values of 1 MiB",
}
QUIET: Final = (1, 8)
"""Connections that fetch, one after the other, beside it."""


class FloodProcess:
    """A flood, from its first bytes to its end."""

    def __init__(self, address: str, kind: str, core: int | None) -> None:
        pinned = [] if core is None else [str(core)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.flooders", address, str(FLOODERS), kind, *pinned],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Self:
        if not (self._process.stdout and self._process.stdout.readline()):
            raise BenchError("a flood cannot be had")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()


class Watched:
    """An agent under ``bench.observed``, and what it has seen."""

    def __init__(self, agent: AgentProcess, file: Path) -> None:
        self._agent = agent
        self._file = file

    def waits(self, *, without: int = 0) -> tuple[float, float]:
        """The p50 and p99 of whoever asked most since the last time, but for the process ``without``."""
        self._file.unlink(missing_ok=True)
        os.kill(self._agent.pid, signal.SIGUSR1)
        deadline = time.monotonic() + PATIENCE
        while not self._file.exists():
            if time.monotonic() > deadline:
                raise BenchError("a watched agent does not say what it has seen")
            time.sleep(POLL)
        told: dict[str, list[float]] = json.loads(self._file.read_text("utf-8"))
        seen = [one for name, one in told.items() if not name.endswith(f"pid {without}")]
        _, p50, p99 = max(seen)
        return p50, p99


def flood(scene: Scene) -> list[Result]:
    """Of each kind of flood in turn, the same fetches without it and with it."""
    directory, core = scene.fresh("flood"), scene.cores.server
    file = directory / "waits.json"
    launcher = [sys.executable, "-I", str(ROOT / "bench" / "observed.py"), str(file)]
    with AgentProcess(directory, core=core, launcher=launcher) as agent:
        agent.init()
        scene.fill(agent, 10 * FEW)
        with keyholt.connect(agent.socket) as client:
            client.put(LARGE_PATH, bytes(LARGE_VALUE))
        watched = Watched(agent, file)
        scene.say(f"fetches beside {FLOODERS} connections that flood, and without, in turn")
        return [_figure(scene, agent, watched, kind, connections) for kind in KINDS for connections in QUIET]


def _figure(scene: Scene, agent: AgentProcess, watched: Watched, kind: str, connections: int) -> Figure:
    job = scene.timed(agent.socket, "get", connections)
    alone: list[tuple[float, float]] = []
    beside: list[tuple[float, float]] = []
    for _ in range(scene.rounds):
        run_load(job)
        alone.append(watched.waits())
        with ExitStack() as stack:
            flooding = stack.enter_context(FloodProcess(agent.socket, kind, scene.cores.load))
            run_load(job)
            beside.append(watched.waits(without=flooding.pid))
    p99 = [[one[1] for one in side] for side in (beside, alone)]
    p50 = [median(one[0] for one in side) for side in (beside, alone)]
    return Figure(
        title=f"flood of {KINDS[kind]}, {connections} beside it: p99 / without",
        bound=Bound.AT_MOST,
        target=2.0,
        value=paired(*p99),
        unit="x",
        measured=f"p99 {median(p99[0]):.0f} µs, {median(p99[1]):.0f} µs; p50 {p50[0]:.0f} µs, "
        f"{p50[1]:.0f} µs",
    )
