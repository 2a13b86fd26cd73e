"""Fetches of a 48-byte secret against a bare trio echo server of the same bytes, and beside idle clients."""

from __future__ import annotations

import dataclasses
from typing import Final

from bench.agent import AgentProcess
from bench.figures import Bound, Cost, Figure, Result
from bench.jobs import Job
from bench.machine import descriptor_limit
from bench.processes import BenchError, EchoProcess, IdleProcess, run_load
from bench.scene import FEW, MANY, Costed, Scene, medians, paired, saturated

__all__ = ["IDLE", "fetch", "idle"]

IDLE: Final = 5_000
"""Connections that have nothing to ask."""

BESIDE: Final = 200
"""Descriptors and connections that are needed beside them."""


def fetch(scene: Scene) -> list[Result]:
    """Many connections, by rate; one connection, by latency."""
    directory, core = scene.fresh("fetch"), scene.cores.server
    with AgentProcess(directory, core=core) as agent, EchoProcess(directory, core) as echo:
        agent.init()
        scene.fill(agent, FEW)
        size = run_load(scene.timed(agent.socket, "get", 1)).answer_size
        scene.say(f"fetches and echoes in turn, {MANY} connections, then one")
        return [_many(scene, agent, echo, size), _one(scene, agent.socket, echo.socket, size)]


def _echo_job(scene: Scene, place: str, connections: int, size: int) -> Job:
    return dataclasses.replace(scene.timed(place, "echo", connections), answer_size=size)


def _many(scene: Scene, agent: AgentProcess, echo: EchoProcess, size: int) -> Figure:
    fetching, echoing = Costed(agent), Costed(echo)
    fetches, echoes = scene.in_turn(
        lambda _: scene.timed(agent.socket, "get", MANY),
        lambda _: _echo_job(scene, echo.socket, MANY, size),
    )
    (fetch_rate, _), (echo_rate, _) = medians(fetches), medians(echoes)
    return Figure(
        title=f"fetch, {MANY} connections: rate / echo's",
        bound=Bound.AT_LEAST,
        target=0.75,
        value=paired((one.rate for one in fetches), (one.rate for one in echoes)),
        unit="x",
        measured=f"{fetch_rate:,.0f} fetches, {echo_rate:,.0f} echoes a second; "
        f"{fetching.each(fetches):.0f} µs and {echoing.each(echoes):.0f} µs of processor time each"
        + saturated("the fetches", fetches)
        + saturated("the echoes", echoes),
    )


def _one(scene: Scene, agent: str, echo: str, size: int) -> Figure:
    fetches, echoes = scene.in_turn(
        lambda _: scene.timed(agent, "get", 1), lambda _: _echo_job(scene, echo, 1, size)
    )
    (_, fetch_p50), (_, echo_p50) = medians(fetches), medians(echoes)
    return Figure(
        title="fetch, one connection: p50 / echo's",
        bound=Bound.AT_MOST,
        target=1.5,
        value=paired((one.p50 for one in fetches), (one.p50 for one in echoes)),
        unit="x",
        measured=f"{fetch_p50:.0f} µs, {echo_p50:.0f} µs",
    )


def idle(scene: Scene) -> list[Result]:
    """The same agent twice, one with idle connections beside."""
    needed = IDLE + BESIDE
    if descriptor_limit(needed) < needed:
        raise BenchError(f"{IDLE:,} connections need a limit on open files (ulimit -n) of {needed:,}")
    core, settings = scene.cores.server, {"listen.unix.max_connections": IDLE + BESIDE}
    alone, beside = scene.fresh("alone"), scene.fresh("beside")
    with (
        AgentProcess(alone, core=core, settings=settings) as free,
        AgentProcess(beside, core=core, settings=settings) as crowded,
    ):
        for agent in (free, crowded):
            agent.init()
            scene.fill(agent, FEW)
            run_load(scene.timed(agent.socket, "get", MANY))
        before = crowded.memory().rss
        with IdleProcess(crowded.socket, IDLE):
            grown = crowded.memory().rss - before
            scene.say(f"fetches with {IDLE:,} idle connections and without in turn")
            many, none = scene.in_turn(
                lambda _: scene.timed(crowded.socket, "get", MANY),
                lambda _: scene.timed(free.socket, "get", MANY),
            )
    return [
        Figure(
            title=f"fetch beside {IDLE:,} idle connections: rate / without",
            bound=Bound.AT_LEAST,
            target=0.95,
            value=paired((one.rate for one in many), (one.rate for one in none)),
            unit="x",
            measured=f"{medians(many)[0]:,.0f} a second, {medians(none)[0]:,.0f}"
            + saturated("the fetches", none),
        ),
        Cost(title="an idle connection", text=f"{grown / IDLE / 1000:.1f} kB of resident memory"),
    ]
