"""From the spawn of the agent to its first answer."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from statistics import median
from typing import Final

from bench.agent import AgentProcess
from bench.figures import Bound, Figure
from bench.processes import spawn
from bench.scene import FEW, Scene

import keyholt

__all__ = ["start"]

STARTS_PER_ROUND: Final = 2


def start(scene: Scene) -> list[Figure]:
    """An agent with a store, in turn with an interpreter that imports trio and ends."""
    directory = scene.store(FEW)
    scene.say(
        f"{STARTS_PER_ROUND * scene.rounds} starts of the agent, in turn with `python -c 'import trio'`"
    )
    imports = [sys.executable, "-c", "import trio"]
    _started(directory)  # not counted: from now on all files are in memory, and all bytecode is compiled
    taken = [
        (*_started(directory), spawn(imports, dict(os.environ)))
        for _ in range(STARTS_PER_ROUND * scene.rounds)
    ]
    greeted, told, imported = (median(times) * 1000 for times in zip(*taken, strict=True))
    return [
        Figure(
            title="start to first answer",
            bound=Bound.AT_MOST,
            target=180,
            value=greeted,
            unit="ms",
            measured=f"{greeted:.0f} ms to the answer to the greeting, {told:.0f} ms to that to "
            f"`agent.status`; `python -c 'import trio'` takes {imported:.0f} ms",
        )
    ]


def _started(directory: Path) -> tuple[float, float]:
    """Seconds from the spawn to the first and to the second answer."""
    begun = time.perf_counter()
    with AgentProcess(directory) as agent, keyholt.connect(agent.socket) as client:
        greeted = time.perf_counter() - begun
        client.status()
        return greeted, time.perf_counter() - begun
