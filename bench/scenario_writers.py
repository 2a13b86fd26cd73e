"""Many writers at once against one alone, and whether each write was on the disk before its answer."""

from __future__ import annotations

import shutil
from itertools import count
from typing import Final

from bench.durability import read_trace, strace_command
from bench.figures import Bound, Figure, Note
from bench.load import Job
from bench.processes import AgentProcess, run_load
from bench.scene import MANY, Scene, medians, paired

__all__ = ["writers"]

ALONE_AT_MOST: Final = 10_000
"""Writes a second: so many are encoded ahead, and a generator that runs out of them ends early."""
TOGETHER_AT_MOST: Final = 25_000
TRACED: Final = 1_500


def writers(scene: Scene) -> list[Figure | Note]:
    """Every write makes a new secret."""
    with AgentProcess(scene.fresh("writers")) as agent:
        agent.init()
        scene.say(f"one writer and {MANY} writers in turn")
        # Each job has numbers of its own: no secret is written twice.
        blocks = count(0, int(TOGETHER_AT_MOST * (scene.seconds + scene.warmup)))
        alone, together = scene.in_turn(
            lambda _: _job(scene, agent.socket, 1, next(blocks), ALONE_AT_MOST),
            lambda _: _job(scene, agent.socket, MANY, next(blocks), TOGETHER_AT_MOST),
        )
    (alone_rate, alone_p50), (rate, p50) = medians(alone), medians(together)
    figure = Figure(
        title=f"{MANY} writers / one writer: commits",
        bound=Bound.AT_LEAST,
        target=10,
        value=paired((one.rate for one in together), (one.rate for one in alone)),
        unit="x",
        measured=f"{rate:,.0f} a second (p50 {p50 / 1000:.1f} ms), "
        f"{alone_rate:,.0f} (p50 {alone_p50 / 1000:.1f} ms)",
    )
    return [figure, _durability(scene)]


def _job(scene: Scene, socket: str, connections: int, first: int, at_most: int) -> Job:
    return Job(
        socket=socket,
        kind="put",
        connections=connections,
        first=first,
        count=int(at_most * (scene.seconds + scene.warmup)),
        order="once",
        seconds=scene.seconds,
        warmup=scene.warmup,
        core=scene.cores.load,
    )


def _durability(scene: Scene) -> Note:
    """The system calls of an agent under writers, held against each other."""
    title = "each write on the disk before its answer"
    if shutil.which("strace") is None:
        return Note(title=title, text="not shown: strace is not installed")
    directory = scene.fresh("traced")
    trace = directory / "trace"
    scene.say(f"{TRACED} writes by {MANY} writers, then 200 by one, under strace")
    with AgentProcess(directory, wrapper=strace_command(trace)) as agent:
        agent.init()
        for connections, first, writes in ((MANY, 0, TRACED), (1, TRACED, 200)):
            run_load(
                Job(
                    socket=agent.socket,
                    kind="put",
                    connections=connections,
                    first=first,
                    count=writes,
                    order="once",
                )
            )
    shown = read_trace(trace)
    return Note(title=title, text=shown.sentence, holds=shown.early == 0 and shown.answers == TRACED + 200)
