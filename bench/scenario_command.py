"""``keyholt get`` as a whole process against the interpreter doing nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from statistics import median
from typing import Final

from bench.exchanges import path_of, value_of
from bench.figures import Bound, Figure
from bench.load import Job
from bench.processes import AgentProcess, BenchError, program, run_load
from bench.scene import Scene, paired

__all__ = ["command"]

RUNS_PER_ROUND: Final = 25


def command(scene: Scene) -> list[Figure]:
    """Both started in turn, from the moment of the spawn to the end of the process."""
    get = [program("keyholt"), "get", path_of(0)]
    nothing = [sys.executable, "-c", "pass"]
    with AgentProcess(scene.fresh("command"), core=scene.cores.server) as agent:
        agent.init()
        run_load(Job(socket=agent.socket, kind="put", connections=1, count=1, order="once"))
        environment = {**os.environ, "KEYHOLT_ADDRESS": agent.socket}
        if subprocess.run(get, env=environment, capture_output=True, check=False).stdout != value_of(0):
            raise BenchError("`keyholt get` does not print the secret")
        runs = RUNS_PER_ROUND * scene.rounds
        scene.say(f"`keyholt get` and `python -c pass` in turn, {runs} times each")
        both = [(_run(get, environment), _run(nothing, environment)) for _ in range(runs)]
    got, passed = median(one for one, _ in both), median(other for _, other in both)
    return [
        Figure(
            title="keyholt get / python -c pass",
            bound=Bound.AT_MOST,
            target=2.0,
            value=paired((one for one, _ in both), (other for _, other in both)),
            unit="x",
            measured=f"{got * 1000:.1f} ms, {passed * 1000:.1f} ms",
        )
    ]


def _run(words: list[str], environment: dict[str, str]) -> float:
    """Seconds that a process takes, spawned by the bare system call, which costs little."""
    silence = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    begun = time.perf_counter()
    pid = os.posix_spawn(words[0], words, environment, file_actions=silence)
    _, status = os.waitpid(pid, 0)
    taken = time.perf_counter() - begun
    if status != 0:
        raise BenchError(f"`{os.path.basename(words[0])}` failed")
    return taken
