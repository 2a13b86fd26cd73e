"""The blocking client's ``get`` on an open connection."""

from __future__ import annotations

from bench.agent import AgentProcess
from bench.figures import Bound, Figure
from bench.scene import FEW, Costed, Scene, medians

__all__ = ["library"]


def library(scene: Scene) -> list[Figure]:
    """In turn with the same fetch by the load generator: the difference is what the library takes."""
    with AgentProcess(scene.store(FEW), core=scene.cores.server) as agent:
        agent.unlock()
        scene.say("the blocking client's `get` and bare fetches in turn, one connection")
        serving = Costed(agent)
        gets, bare = scene.in_turn(
            lambda _: scene.timed(agent.socket, "library", 1),
            lambda _: scene.timed(agent.socket, "get", 1),
        )
        cost = serving.each([*gets, *bare])
    (_, p50), (_, bare_p50) = medians(gets), medians(bare)
    return [
        Figure(
            title="the blocking client's get: p50",
            bound=Bound.AT_MOST,
            target=100,
            value=p50,
            unit="µs",
            measured=f"{p50:.0f} µs, of which the same fetch without the library takes {bare_p50:.0f} µs and "
            f"the agent {cost:.0f} µs of processor time",
        )
    ]
