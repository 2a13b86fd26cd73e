"""``keyholt get`` as a whole process against an interpreter that does nothing; ``keyholt run`` against it."""

from __future__ import annotations

import os
import subprocess
import sys
from statistics import median
from typing import Final

from bench.agent import AgentProcess
from bench.exchanges import path_of, value_of
from bench.figures import Bound, Figure
from bench.processes import BenchError, program, spawn
from bench.scene import FEW, Scene, paired

__all__ = ["RUNS_PER_ROUND", "command"]

RUNS_PER_ROUND: Final = 25
REFERENCES: Final = 20


def command(scene: Scene) -> list[Figure]:
    """All started in turn, from the moment of the spawn to the end of the process."""
    directory = scene.store(FEW)
    file = directory / "references.env"
    file.write_text("".join(f"SECRET_{n}=keyholt://{path_of(n)}\n" for n in range(REFERENCES)), "utf-8")
    keyholt = program("keyholt")
    get = [keyholt, "get", path_of(0)]
    run = [keyholt, "run", "--env-file", str(file), "--"]
    with AgentProcess(directory, core=scene.cores.server) as agent:
        agent.unlock()
        environment = {**os.environ, "KEYHOLT_ADDRESS": agent.socket}
        _check(get, environment, value_of(0))
        _check([*run, "/bin/sh", "-c", f'printf %s "$SECRET_{REFERENCES - 1}"'], environment,
               value_of(REFERENCES - 1))  # fmt: skip
        runs = RUNS_PER_ROUND * scene.rounds
        scene.say(f"`keyholt get`, `python -c pass` and `keyholt run` in turn, {runs} times each")
        words = (get, [sys.executable, "-c", "pass"], [*run, "/bin/true"])
        taken = [[spawn(one, environment) for one in words] for _ in range(runs)]
    got, nothing, ran = zip(*taken, strict=True)
    got_ms, nothing_ms, ran_ms = (median(times) * 1000 for times in (got, nothing, ran))
    return [
        Figure(
            title="keyholt get / python -c pass",
            bound=Bound.AT_MOST,
            target=1.3,
            value=paired(got, nothing),
            unit="x",
            measured=f"{got_ms:.1f} ms, {nothing_ms:.1f} ms",
        ),
        Figure(
            title=f"keyholt run, {REFERENCES} references / keyholt get",
            bound=Bound.AT_MOST,
            target=1.25,
            value=paired(ran, got),
            unit="x",
            measured=f"{ran_ms:.1f} ms with the start of /bin/true, {got_ms:.1f} ms",
        ),
    ]


def _check(words: list[str], environment: dict[str, str], output: bytes) -> None:
    if subprocess.run(words, env=environment, capture_output=True, check=False).stdout != output:
        raise BenchError(f"`{' '.join(['keyholt', words[1]])}` does not give out the secret")
