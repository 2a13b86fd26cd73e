"""Many secrets: imported by the command line, and fetched for the first time."""

from __future__ import annotations

import os
from typing import Final

from bench.agent import AgentProcess
from bench.exchanges import value_of
from bench.figures import Bound, Cost, Figure, Result
from bench.processes import BenchError, program, run_load, spawn
from bench.scene import MANY, Scene, medians, paired

import keyholt

__all__ = ["first_fetch", "import_file"]

PREFIX: Final = "bench/imported"


def import_file(scene: Scene) -> list[Figure]:
    """``keyholt import`` as a whole process, from a file of as many variables."""
    directory, secrets = scene.fresh("import"), scene.secrets
    file = directory / "variables.env"
    file.write_bytes(b"".join(b"KEY_%06d=%s\n" % (number, value_of(number)) for number in range(secrets)))
    with AgentProcess(directory) as agent:
        agent.init()
        scene.say(f"`keyholt import` of {secrets:,} secrets")
        words = [program("keyholt"), "--address", agent.socket, "import", str(file), PREFIX]
        taken = spawn(words, dict(os.environ))
        cost = agent.processor_time() / secrets
        _check(agent, secrets - 1)
    return [
        Figure(
            title=f"keyholt import of {secrets:,} secrets",
            bound=Bound.AT_LEAST,
            target=8_000,
            value=secrets / taken,
            unit="/s",
            measured=f"{taken:.1f} s; {cost * 1e6:.0f} µs of the agent's processor time a secret",
        )
    ]


def _check(agent: AgentProcess, number: int) -> None:
    with keyholt.connect(agent.socket) as client, client.get(f"{PREFIX}/KEY_{number:06}") as secret:
        if secret.bytes != value_of(number):
            raise BenchError("an imported secret has another value")


def first_fetch(scene: Scene) -> list[Result]:
    """Part by part: each secret of it for the first time, then those same ones, cached now, at random."""
    part = scene.secrets // scene.rounds
    with AgentProcess(scene.store(scene.secrets), core=scene.cores.server) as agent:
        agent.unlock()
        run_load(scene.timed(agent.socket, "get", MANY))
        scene.say(f"{scene.rounds} times {part:,} secrets for the first time and from the cache, in turn")
        held, first, again = [_held(agent)], [], []
        for number in range(scene.rounds):
            first.append(scene.once(agent, "get", number * part, part))
            again.append(run_load(scene.timed(agent.socket, "get", MANY, part, number * part)))
            held.append(_held(agent))
    half = scene.rounds // 2  # of them are cached all together; later ones push others out
    resident, counted = ((now - then) / (half * part) for now, then in zip(held[half], held[0], strict=True))
    return [
        Figure(
            title=f"first fetch of each of {scene.secrets:,} secrets / from the cache",
            bound=Bound.AT_LEAST,
            target=0.50,
            value=paired((one.rate for one in first), (one.rate for one in again)),
            unit="x",
            measured=f"{medians(first)[0]:,.0f} a second, {medians(again)[0]:,.0f}",
        ),
        Cost(
            title="a cached record",
            text=f"{resident:,.0f} bytes of resident memory, counted as {counted:,.0f}; 32 of them, "
            "for the key of one that was fetched, in locked memory that is set aside at unlock",
        ),
    ]


def _held(agent: AgentProcess) -> tuple[int, int]:
    """Bytes: resident, and cached as the agent counts them."""
    with keyholt.connect(agent.socket) as client:
        status = client.status()
    return agent.memory().rss, status.cache_used
