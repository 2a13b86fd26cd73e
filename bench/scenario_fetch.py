"""Fetches of a 48-byte secret against a bare trio echo server of the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from bench.figures import Bound, Figure
from bench.load import Job, Measured
from bench.processes import AgentProcess, EchoProcess, run_load
from bench.scene import MANY, Scene, medians, paired

__all__ = ["fetch"]

SECRETS: Final = 100


def fetch(scene: Scene) -> list[Figure]:
    """Many connections, by rate; one connection, by latency."""
    directory, core = scene.fresh("fetch"), scene.cores.server
    with AgentProcess(directory, core=core) as agent, EchoProcess(directory, core) as echo:
        agent.init()
        run_load(Job(socket=agent.socket, kind="put", connections=MANY, count=SECRETS, order="once"))
        scene.say(f"fetches and echoes in turn, {MANY} connections, then one")
        return [_many(scene, agent, echo), _one(scene, agent.socket, echo.socket)]


def _many(scene: Scene, agent: AgentProcess, echo: EchoProcess) -> Figure:
    before = agent.processor_time(), echo.processor_time()
    fetches, echoes = scene.in_turn(
        lambda _: _job(scene, agent.socket, "get", MANY), lambda _: _job(scene, echo.socket, "echo", MANY)
    )
    fetch_cost = _cost(agent.processor_time() - before[0], fetches)
    echo_cost = _cost(echo.processor_time() - before[1], echoes)
    (fetch_rate, _), (echo_rate, _) = medians(fetches), medians(echoes)
    return Figure(
        title=f"fetch, {MANY} connections: rate / echo's",
        bound=Bound.AT_LEAST,
        target=0.50,
        value=paired((one.rate for one in fetches), (one.rate for one in echoes)),
        unit="x",
        measured=f"{fetch_rate:,.0f} fetches, {echo_rate:,.0f} echoes a second; "
        f"{fetch_cost:.0f} µs and {echo_cost:.0f} µs of processor time each",
    )


def _one(scene: Scene, agent: str, echo: str) -> Figure:
    fetches, echoes = scene.in_turn(
        lambda _: _job(scene, agent, "get", 1), lambda _: _job(scene, echo, "echo", 1)
    )
    (_, fetch_p50), (_, echo_p50) = medians(fetches), medians(echoes)
    return Figure(
        title="fetch, one connection: p50 / echo's",
        bound=Bound.AT_MOST,
        target=2.5,
        value=paired((one.p50 for one in fetches), (one.p50 for one in echoes)),
        unit="x",
        measured=f"{fetch_p50:.0f} µs, {echo_p50:.0f} µs",
    )


def _cost(seconds: float, measured: Sequence[Measured]) -> float:
    """Microseconds of the server's processor time an answer, which other load changes less than a rate."""
    return seconds * 1e6 / sum(one.total for one in measured)


def _job(scene: Scene, socket: str, kind: Literal["get", "echo"], connections: int) -> Job:
    return Job(
        socket=socket,
        kind=kind,
        connections=connections,
        count=SECRETS,
        seconds=scene.seconds,
        warmup=scene.warmup,
        core=scene.cores.load,
    )
