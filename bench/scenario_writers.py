"""Writers, one and many, against a bare append and sync; and whether each write was on the disk before its
answer.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from itertools import count
from typing import Final

from bench.agent import AgentProcess
from bench.durability import read_trace, strace_command
from bench.figures import Bound, Figure, Note, Result
from bench.jobs import Job, Measured
from bench.scene import MANY, Costed, Scene, medians, paired, saturated

__all__ = ["writers"]

ALONE_TARGET: Final = 1.5 * 0.12
"""Commits of one writer for each ``append; fdatasync`` of the same run: half as many again as when the target
was set. Then it was 0.12: 870 and 7,200 a second, at 860 µs of the agent's processor time a commit."""

TOGETHER_TARGET: Final = 2 * 0.88
"""Likewise of many writers, twice as many. It was 0.88: 6,300 a second, at 140 µs each."""

USUAL_APPEND: Final = 140.0
"""Microseconds that an append took then. Where it takes longer, waiting is more of a commit, and the ratio
says less: a lone commit comes near to 1, and many share one wait."""

ALONE_AT_MOST: Final = 10_000
"""Writes a second: so many are encoded ahead, and a generator that runs out of them ends early."""
TOGETHER_AT_MOST: Final = 30_000
TRACED: Final = 1_500
TRACED_ALONE: Final = 200


def writers(scene: Scene) -> list[Result]:
    """Every write makes a new secret; one writer and many have an agent each."""
    directory, directory_many = scene.fresh("writer"), scene.fresh("writers")
    with AgentProcess(directory) as agent, AgentProcess(directory_many) as agent_many:
        agent.init()
        agent_many.init()
        scene.say(f"one writer, {MANY} writers, and `append; fdatasync` in turn")
        numbers, numbers_many = count(), count()
        writing, writing_many = Costed(agent), Costed(agent_many)
        alone, together, appends = scene.in_turn(
            lambda _: _job(scene, agent.socket, 1, numbers, ALONE_AT_MOST),
            lambda _: _job(scene, agent_many.socket, MANY, numbers_many, TOGETHER_AT_MOST),
            lambda _: scene.timed(str(directory / "appended"), "append", 1),
        )
        costs = writing.each(alone), writing_many.each(together)
    return [
        _figure("one writer", ALONE_TARGET, alone, appends, costs[0]),
        _figure(f"{MANY} writers", TOGETHER_TARGET, together, appends, costs[1]),
        _durability(scene),
    ]


def _figure(who: str, target: float, writes: list[Measured], appends: list[Measured], cost: float) -> Figure:
    (rate, p50), (append_rate, append_p50) = medians(writes), medians(appends)
    slow = append_p50 > 2 * USUAL_APPEND
    remark = f"; the target supposes {USUAL_APPEND / 1000:.2f} ms" if slow else ""
    return Figure(
        title=f"{who}: commits / append; fdatasync",
        bound=Bound.AT_LEAST,
        target=target,
        value=paired((one.rate for one in writes), (one.rate for one in appends)),
        unit="x",
        measured=f"{rate:,.0f} a second (p50 {p50 / 1000:.1f} ms, {cost:.0f} µs of processor time each), "
        f"{append_rate:,.0f} (p50 {append_p50 / 1000:.2f} ms{remark})" + saturated("the writes", writes),
    )


def _job(scene: Scene, socket: str, connections: int, rounds: Iterator[int], at_most: int) -> Job:
    """Each job has numbers of its own: no secret is written twice."""
    secrets = int(at_most * (scene.seconds + scene.warmup))
    job = scene.timed(socket, "put", connections, secrets, first=next(rounds) * secrets)
    return dataclasses.replace(job, order="once")


def _durability(scene: Scene) -> Note:
    """The system calls of an agent under writers, held against each other."""
    title = "each write on the disk before its answer"
    if shutil.which("strace") is None:
        return Note(title=title, text="not shown: strace is not installed")
    directory = scene.fresh("traced")
    trace = directory / "trace"
    scene.say(f"{TRACED} writes by {MANY} writers, then {TRACED_ALONE} by one, under strace")
    with AgentProcess(directory, wrapper=strace_command(trace)) as agent:
        agent.init()
        answer_size = scene.once(agent, "put", 0, TRACED).answer_size
        scene.once(agent, "put", TRACED, TRACED_ALONE, connections=1)
    shown = read_trace(trace, answer_size)
    holds = shown.early == 0 and shown.answers == TRACED + TRACED_ALONE
    return Note(title=title, text=shown.sentence, holds=holds)
