"""An agent with very many secrets: its start, its fetches from the cache, its memory."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from typing import Final

from argon2.low_level import Type, hash_secret_raw
from bench.agent import PASSPHRASE, AgentProcess
from bench.exchanges import path_of, value_of
from bench.figures import Bound, Figure, Result
from bench.processes import BenchError
from bench.scene import FEW, MANY, MB, Scene, medians, paired

import keyholt

__all__ = ["million"]

STARTS: Final = 5
CACHED_SHARE: Final = 0.05
"""Of all secrets, those that the rate from the cache is measured with: they fit with room to spare."""

FETCHED_SHARE: Final = 0.2
"""Of all secrets, those that are fetched once to fill the cache, and more than it holds."""

ALLOWANCE: Final = 40 * MB
"""Bytes of the agent beside its cache."""


def million(scene: Scene) -> list[Result]:
    """One store; the small one beside it is the other side of the rate."""
    many, few = scene.store(scene.million), scene.store(FEW)
    return [*_start(scene, many), *_rate_and_memory(scene, many, few)]


def _start(scene: Scene, directory: Path) -> list[Result]:
    """From the spawn to the first value, less the unlock; and the unlock, less what the derivation takes."""
    scene.say(f"{STARTS} starts with {scene.million:,} secrets")
    all_three = [
        (*_start_to_first_fetch(directory, scene.million // 2 + number), _derivation())
        for number in range(STARTS)
    ]
    whole, unlock, derivation = (median(times) for times in zip(*all_three, strict=True))
    check = max(0.0, unlock - derivation)
    return [
        Figure(
            title=f"start to first fetch, {scene.million:,} secrets, without the unlock",
            bound=Bound.AT_MOST,
            target=3.0,
            value=max(0.0, whole - unlock),
            unit="s",
            measured=f"{whole:.2f} s, of which the unlock takes {unlock:.2f} s",
        ),
        Figure(
            title=f"unlock, {scene.million:,} secrets, without the key derivation: the check of the store",
            bound=Bound.AT_MOST,
            target=8.0 * scene.million / 1_000_000,
            value=check,
            unit="s",
            measured=f"{1e6 * check / scene.million:.1f} µs a secret; deriving {derivation:.2f} s",
        ),
    ]


def _start_to_first_fetch(directory: Path, number: int) -> tuple[float, float]:
    """Seconds in all, and those of them that the unlock takes."""
    begun = time.perf_counter()
    with AgentProcess(directory) as agent, keyholt.connect(agent.socket) as client:
        locked = time.perf_counter()
        client.unlock(passphrase=PASSPHRASE)
        unlocked = time.perf_counter()
        value = client.get(path_of(number)).bytes
        taken = time.perf_counter() - begun
    if value != value_of(number):
        raise BenchError("the first fetch after a start gave a wrong value")
    return taken, unlocked - locked


def _derivation() -> float:
    """Seconds of the least derivation that the agent accepts, RFC 9106's second recommended set."""
    begun = time.perf_counter()
    hash_secret_raw(
        PASSPHRASE, bytes(16), time_cost=3, memory_cost=65_536, parallelism=4, hash_len=32, type=Type.ID
    )
    return time.perf_counter() - begun


def _rate_and_memory(scene: Scene, many: Path, few: Path) -> list[Result]:
    core, cached = scene.cores.server, int(scene.million * CACHED_SHARE)
    with AgentProcess(many, core=core) as large, AgentProcess(few, core=core) as small:
        large.unlock()
        small.unlock()
        before = large.memory().rss
        scene.say(f"fetches among {cached:,} cached of {scene.million:,} secrets and among {FEW} in turn")
        scene.once(large, "get", 0, cached)
        fetches, fetches_few = scene.in_turn(
            lambda _: scene.timed(large.socket, "get", MANY, cached),
            lambda _: scene.timed(small.socket, "get", MANY),
        )
        return [
            Figure(
                title=f"fetch rate, {scene.million:,} secrets, {cached:,} cached / {FEW} secrets",
                bound=Bound.AT_LEAST,
                target=0.90,
                value=paired((one.rate for one in fetches), (one.rate for one in fetches_few)),
                unit="x",
                measured=f"{medians(fetches)[0]:,.0f} a second, {medians(fetches_few)[0]:,.0f}",
            ),
            _memory(scene, large, cached, before),
        ]


def _memory(scene: Scene, agent: AgentProcess, fetched: int, before: int) -> Figure:
    """Resident, in all, when more has been fetched than the cache holds."""
    more = int(scene.million * FETCHED_SHARE)
    scene.say(f"{more:,} more secrets for the first time")
    scene.once(agent, "get", fetched, more)
    with keyholt.connect(agent.socket) as client:
        status = client.status()
    resident = agent.memory().rss
    return Figure(
        title=f"resident memory, {scene.million:,} secrets, cache of {status.cache_limit / MB:.1f} MB",
        bound=Bound.AT_MOST,
        target=(status.cache_limit + ALLOWANCE) / MB,
        value=resident / MB,
        unit="MB",
        measured=f"Rss {resident / MB:.1f} MB: {before / MB:.1f} MB before the first fetch, grown by "
        f"{(resident - before) / MB:.1f} MB, with {status.cache_used / MB:.1f} MB of cached records",
    )
