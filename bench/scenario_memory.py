"""The agent's memory: with nothing to do, and with a cache far smaller than what it gives out."""

from __future__ import annotations

import time
from typing import Final

from bench.agent import AgentProcess
from bench.figures import Bound, Figure
from bench.scene import FEW, MB, Scene

__all__ = ["memory"]

SMALL_CACHE: Final = 4 * 1024 * 1024
"""Bytes: room for a few thousand of the secrets."""

ALLOWANCE: Final = 8 * MB
"""Bytes that memory may grow by beside the cache: allocators keep what a burst needed, and SQLite has a
cache of its own, 2 MB by its default."""

SETTLE: Final = 1.0
"""Seconds for an agent to become idle."""


def memory(scene: Scene) -> list[Figure]:
    """A figure of either."""
    return [_idle(scene), _bounded(scene)]


def _idle(scene: Scene) -> Figure:
    """An agent that was started and unlocked and has nothing to do."""
    with AgentProcess(scene.store(FEW)) as agent:
        agent.unlock()
        time.sleep(SETTLE)
        held = agent.memory()
    pss = "not readable" if held.pss is None else f"{held.pss / MB:.1f} MB"
    return Figure(
        title="resident memory, idle",
        bound=Bound.AT_MOST,
        target=55,
        value=held.rss / MB,
        unit="MB",
        measured=f"Rss {held.rss / MB:.1f} MB, Pss {pss}",
    )


def _bounded(scene: Scene) -> Figure:
    """What an agent with a small cache grows by while it gives out far more than fits."""
    directory, secrets = scene.store(scene.secrets), scene.secrets
    scene.say(f"every one of {secrets:,} secrets twice, with a cache of {SMALL_CACHE / MB:.1f} MB")
    settings = {"store.cache": SMALL_CACHE}
    with AgentProcess(directory, core=scene.cores.server, settings=settings) as agent:
        agent.unlock()
        sizes = [agent.memory().rss]
        for _ in range(2):
            scene.once(agent, "get", 0, secrets)
            sizes.append(agent.memory().rss)
    first, second = sizes[1] - sizes[0], sizes[2] - sizes[1]
    return Figure(
        title=f"memory grown, cache of {SMALL_CACHE / MB:.1f} MB",
        bound=Bound.AT_MOST,
        target=(SMALL_CACHE + ALLOWANCE) / MB,
        value=(first + second) / MB,
        unit="MB",
        measured=f"{first / MB:.1f} MB by fetching all {secrets:,} once, {second / MB:.1f} MB by doing it "
        "again",
    )
