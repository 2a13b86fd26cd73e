"""Short-lived clients: connect, greet, fetch one secret, close; against a bare trio server."""

from __future__ import annotations

import dataclasses

from bench.agent import AgentProcess
from bench.figures import Bound, Figure
from bench.processes import EchoProcess, run_load
from bench.scene import FEW, MANY, Costed, Scene, medians, paired, saturated

__all__ = ["connect"]


def connect(scene: Scene) -> list[Figure]:
    """Many at a time; the bare server echoes as many bytes as the agent answers with, in each exchange."""
    directory, core = scene.fresh("connect"), scene.cores.server
    with AgentProcess(directory, core=core) as agent, EchoProcess(directory, core) as echo:
        agent.init()
        scene.fill(agent, FEW)
        sample = run_load(scene.timed(agent.socket, "visit", 1))
        scene.say(f"short connections to the agent and to a bare server in turn, {MANY} at a time")
        serving, echoing = Costed(agent), Costed(echo)
        visits, echoes = scene.in_turn(
            lambda _: scene.timed(agent.socket, "visit", MANY),
            lambda _: dataclasses.replace(
                scene.timed(echo.socket, "visit-echo", MANY),
                answer_size=sample.answer_size,
                greeting_size=sample.greeting_size,
            ),
        )
        costs = serving.each(visits), echoing.each(echoes)
    (rate, _), (echo_rate, _) = medians(visits), medians(echoes)
    return [
        Figure(
            title=f"connect, greet, fetch, close, {MANY} at a time: rate / bare trio server's",
            bound=Bound.AT_LEAST,
            target=2.0,
            value=paired((one.rate for one in visits), (one.rate for one in echoes)),
            unit="x",
            measured=f"{rate:,.0f} connections a second, {echo_rate:,.0f}; {costs[0]:.0f} µs and "
            f"{costs[1]:.0f} µs of processor time each"
            + saturated("the agent's", visits)
            + saturated("the bare server's", echoes),
        )
    ]
