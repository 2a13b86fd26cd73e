"""Listing very many secrets: all of them, and a page of them wherever it is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from bench.agent import AgentProcess
from bench.exchanges import PAGE_LIMIT, path_of
from bench.figures import Bound, Figure
from bench.jobs import Measured
from bench.processes import BenchError, program, spawn
from bench.scene import Scene, medians, paired

__all__ = ["listing"]

FIRST_PAGE: Final = -1
"""The number after which the first page comes."""

CONSTANT: Final = 1.2
"""How much longer a page may take with ten times the secrets: a level more in the store's tree."""


def listing(scene: Scene) -> list[Figure]:
    """All by ``keyholt list``; the first and the last page, and the first of a tenth, in turn."""
    many, tenth = scene.million, scene.million // 10
    core = scene.cores.server
    with (
        AgentProcess(scene.store(many), core=core) as agent,
        AgentProcess(scene.store(tenth), core=core) as smaller,
    ):
        agent.unlock()
        smaller.unlock()
        last = _before_last_page(many)
        scene.say(f"pages of {many:,} and of {tenth:,} secrets in turn")
        first_pages, last_pages, smaller_pages = scene.in_turn(
            lambda _: scene.timed(agent.socket, "page", 1, 1, FIRST_PAGE),
            lambda _: scene.timed(agent.socket, "page", 1, 1, last),
            lambda _: scene.timed(smaller.socket, "page", 1, 1, FIRST_PAGE),
        )
        for pages in (first_pages, last_pages, smaller_pages):
            _check_full(pages)
        scene.say(f"`keyholt list` of {many:,} secrets")
        before = agent.processor_time()
        taken = _list_all(scene.fresh("list") / "paths", agent, many)
        cost = agent.processor_time() - before
    return [
        Figure(
            title=f"keyholt list of {many:,} secrets",
            bound=Bound.AT_MOST,
            target=20,
            value=taken,
            unit="s",
            measured=f"{many / PAGE_LIMIT:,.0f} pages, {taken * 1000 * PAGE_LIMIT / many:.1f} ms each; "
            f"{cost:.1f} s of the agent's processor time",
        ),
        _ratio(f"last page of {many:,} secrets: p50 / the first's", 1.5, last_pages, first_pages),
        _ratio(f"first page of {many:,} secrets: p50 / of {tenth:,}", CONSTANT, first_pages, smaller_pages),
    ]


def _before_last_page(secrets: int) -> int:
    """The number of the secret after which the last page of ``PAGE_LIMIT`` begins."""
    return sorted(range(secrets), key=path_of)[-PAGE_LIMIT - 1]


def _check_full(pages: list[Measured]) -> None:
    if pages[0].answer_size < PAGE_LIMIT * len(path_of(0)):
        raise BenchError("a page that should be full is not")


def _list_all(output: Path, agent: AgentProcess, secrets: int) -> float:
    taken = spawn([program("keyholt"), "--address", agent.socket, "list"], dict(os.environ), str(output))
    with output.open("rb") as lines:
        if sum(1 for _ in lines) != secrets:
            raise BenchError("`keyholt list` does not list every secret")
    return taken


def _ratio(title: str, target: float, ones: list[Measured], others: list[Measured]) -> Figure:
    return Figure(
        title=title,
        bound=Bound.AT_MOST,
        target=target,
        value=paired((one.p50 for one in ones), (one.p50 for one in others)),
        unit="x",
        measured=f"{medians(ones)[1] / 1000:.2f} ms, {medians(others)[1] / 1000:.2f} ms",
    )
