"""Many secrets: the start, the fetch rate against that of a small store, and the memory it takes."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from typing import Final, Literal

from argon2.low_level import Type, hash_secret_raw
from bench.exchanges import path_of, value_of
from bench.figures import Bound, Figure, Note
from bench.load import Job
from bench.processes import PASSPHRASE, AgentProcess, BenchError, run_load
from bench.scene import MANY, Scene, medians, paired

import keyholt

__all__ = ["idle_memory", "many_secrets"]

FEW: Final = 100
STARTS: Final = 3
SMALL_CACHE: Final = 4 * 1024 * 1024
"""Bytes: room for a few thousand of the secrets."""

ALLOWANCE: Final = 8_000_000
"""Bytes that memory may grow by beside the cache: allocators keep what a burst needed, and SQLite has a
cache of its own, 2 MB by its default."""

SETTLE: Final = 1.0
"""Seconds for an agent to become idle."""

_MB: Final = 1_000_000


def many_secrets(scene: Scene) -> list[Figure | Note]:
    """Written through the wire, then started, fetched and measured."""
    few, many = scene.fresh("few"), scene.fresh("many")
    loaded = [_load(scene, few, FEW), _load(scene, many, scene.secrets)][1]
    return [
        loaded,
        _start(scene, many),
        *_rates(scene, few, many),
        _bounded_memory(scene, many),
    ]


def idle_memory(scene: Scene) -> list[Figure]:
    """An agent that was started and unlocked and has nothing to do."""
    directory = scene.fresh("idle")
    _load(scene, directory, FEW)
    with AgentProcess(directory) as agent:
        agent.unlock()
        time.sleep(SETTLE)
        memory = agent.memory()
    pss = "not readable" if memory.pss is None else f"{memory.pss / _MB:.1f} MB"
    return [
        Figure(
            title="resident memory, idle",
            bound=Bound.AT_MOST,
            target=90,
            value=memory.rss / _MB,
            unit="MB",
            measured=f"Rss {memory.rss / _MB:.1f} MB, Pss {pss}",
        )
    ]


def _load(scene: Scene, directory: Path, secrets: int) -> Note:
    scene.say(f"{secrets:,} secrets written by {MANY} connections")
    with AgentProcess(directory) as agent:
        agent.init()
        measured = run_load(_once(scene, agent, "put", secrets))
    return Note(
        title=f"writing {secrets:,} secrets", text=f"{measured.seconds:.1f} s, {measured.rate:,.0f} a second"
    )


def _start(scene: Scene, directory: Path) -> Figure:
    """From the spawn to the first value, less what the key derivation takes by itself."""
    scene.say(f"{STARTS} starts with {scene.secrets:,} secrets")
    starts = [_start_to_first_fetch(directory, scene.secrets // 2 + number) for number in range(STARTS)]
    derivations = [_derivation() for _ in range(STARTS)]
    whole, derivation = median(starts), median(derivations)
    return Figure(
        title=f"start to first fetch, {scene.secrets:,} secrets",
        bound=Bound.AT_MOST,
        target=2.0,
        value=max(0.0, whole - derivation),
        unit="s",
        measured=f"{whole:.2f} s, of which {derivation:.2f} s derive the key",
    )


def _start_to_first_fetch(directory: Path, number: int) -> float:
    begun = time.perf_counter()
    with AgentProcess(directory) as agent, keyholt.connect(agent.socket) as client:
        client.unlock(passphrase=PASSPHRASE)
        value = client.get(path_of(number)).bytes
        taken = time.perf_counter() - begun
    if value != value_of(number):
        raise BenchError("the first fetch after a start gave a wrong value")
    return taken


def _derivation() -> float:
    """Seconds of the least derivation that the agent accepts, RFC 9106's second recommended set."""
    begun = time.perf_counter()
    hash_secret_raw(
        PASSPHRASE, bytes(16), time_cost=3, memory_cost=65_536, parallelism=4, hash_len=32, type=Type.ID
    )
    return time.perf_counter() - begun


def _rates(scene: Scene, few: Path, many: Path) -> list[Figure | Note]:
    """Each store has an agent of its own, both with the default settings; they are measured in turn."""
    core, secrets = scene.cores.server, scene.secrets
    with AgentProcess(few, core=core) as small, AgentProcess(many, core=core) as large:
        small.unlock()
        large.unlock()
        before = large.memory().rss
        scene.say(f"every one of {secrets:,} secrets once, then fetches among {FEW} and {secrets:,} in turn")
        cold = run_load(_once(scene, large, "get", secrets))
        grown = large.memory().rss - before
        fetches, fetches_few = scene.in_turn(
            lambda _: _drawn(scene, large, secrets), lambda _: _drawn(scene, small, FEW)
        )
        with keyholt.connect(large.socket) as client:
            status = client.status()
    (rate, _), (rate_few, _) = medians(fetches), medians(fetches_few)
    share = status.cache_used / status.cache_limit
    return [
        Note(
            title=f"first fetch of each of {secrets:,} secrets",
            text=f"{cold.rate:,.0f} a second, from the disk into the cache; memory grew by {grown / _MB:.0f} "
            f"MB, and the cache of {status.cache_limit / 2**20:.0f} MiB is {share:.0%} full",
        ),
        Figure(
            title=f"fetch rate, {secrets:,} secrets / {FEW}",
            bound=Bound.AT_LEAST,
            target=0.90,
            value=paired((one.rate for one in fetches), (one.rate for one in fetches_few)),
            unit="x",
            measured=f"{rate:,.0f} a second, {rate_few:,.0f}",
        ),
    ]


def _bounded_memory(scene: Scene, directory: Path) -> Figure:
    """What an agent with a small cache grows by while it gives out far more than fits."""
    scene.say(f"every secret twice, with a cache of {SMALL_CACHE / 2**20:.0f} MiB")
    with AgentProcess(directory, core=scene.cores.server, cache=SMALL_CACHE) as agent:
        agent.unlock()
        sizes = [agent.memory().rss]
        for _ in range(2):
            run_load(_once(scene, agent, "get", scene.secrets))
            sizes.append(agent.memory().rss)
    first, second = sizes[1] - sizes[0], sizes[2] - sizes[1]
    return Figure(
        title=f"memory grown, cache of {SMALL_CACHE / 2**20:.0f} MiB",
        bound=Bound.AT_MOST,
        target=(SMALL_CACHE + ALLOWANCE) / _MB,
        value=(first + second) / _MB,
        unit="MB",
        measured=f"{first / _MB:.1f} MB by fetching all {scene.secrets:,} once, {second / _MB:.1f} MB by "
        "doing it again",
    )


def _once(scene: Scene, agent: AgentProcess, kind: Literal["get", "put"], secrets: int) -> Job:
    return Job(
        socket=agent.socket,
        kind=kind,
        connections=min(MANY, secrets),
        count=secrets,
        order="once",
        core=scene.cores.load,
    )


def _drawn(scene: Scene, agent: AgentProcess, secrets: int) -> Job:
    return Job(
        socket=agent.socket,
        kind="get",
        connections=MANY,
        count=secrets,
        seconds=scene.seconds,
        warmup=scene.warmup,
        core=scene.cores.load,
    )
