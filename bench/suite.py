"""The benchmark as a whole: which scenarios there are, their order, and what is made of their results.

- A directory on a disk is made for it and removed, whatever happens; so are the processes.
- A missed target is a result, not a failure. A wrong answer, or a process that does not start, is one.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from bench.chart import chart
from bench.exchanges import EXCHANGES
from bench.figures import Figure, Note
from bench.machine import Cores, describe_machine, file_system
from bench.processes import BenchError
from bench.report import page
from bench.scenario_command import RUNS_PER_ROUND, command
from bench.scenario_fetch import fetch
from bench.scenario_size import idle_memory, many_secrets
from bench.scenario_writers import writers
from bench.scene import Scenario, Scene

__all__ = ["SCENARIOS", "run_suite"]

SCENARIOS: Final[dict[str, Scenario]] = {
    "fetch": fetch,
    "command": command,
    "writers": writers,
    "size": many_secrets,
    "memory": idle_memory,
}

PAGE: Final = Path(__file__).parent.parent / "docs" / "benchmarks.md"
INTERRUPTED: Final = 130


def run_suite(names: Sequence[str], *, quick: bool) -> int:
    """Run scenarios and report; gives the exit status.

    Args:
        names: of the scenarios; all when empty.
        quick: measure shortly and a tenth of the secrets; the page is written by whole runs of everything
        only.
    """
    signal.signal(signal.SIGTERM, _stop)
    begun = time.monotonic()
    # Not the usual place for temporary files, which may be memory: a commit must meet a disk.
    place = os.environ.get("TMPDIR") or "/var/tmp"
    try:
        with tempfile.TemporaryDirectory(prefix="keyholt-bench-", dir=place) as directory:
            scene = _scene(Path(directory), quick=quick)
            machine = {**describe_machine(), "store on": file_system(Path(directory))}
            print(f"other load: {machine['other load']}", file=sys.stderr)
            results = [one for name in names or SCENARIOS for one in _run(name, scene)]
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return INTERRUPTED
    _tell(results, scene.cores, time.monotonic() - begun)
    if not names and not quick:
        _write_page(results, machine, scene)
    return 0


def _scene(directory: Path, *, quick: bool) -> Scene:
    cores = Cores.available()
    if quick:
        return Scene(directory=directory, cores=cores, rounds=3, seconds=0.5, secrets=10_000)
    return Scene(directory=directory, cores=cores)


def _run(name: str, scene: Scene) -> Sequence[Figure | Note]:
    print(f"{name}:", file=sys.stderr, flush=True)
    return SCENARIOS[name](scene)


def _tell(results: Sequence[Figure | Note], cores: Cores, seconds: float) -> None:
    figures = [one for one in results if isinstance(one, Figure)]
    print("\n" + chart(figures) + "\n")
    for one in results:
        if isinstance(one, Figure):
            print(f"{one.title}: {one.measured}")
        else:
            print(f"{one.title}: {one.verdict + ': ' if one.verdict else ''}{one.text}")
    if not cores.pinned:
        print("One core: the agent and the load generator share it, nothing is pinned.")
    missed = sum(not one.reached for one in figures)
    print(f"\n{len(figures) - missed} of {len(figures)} targets reached, {seconds:.0f} s.")


def _write_page(results: Sequence[Figure | Note], machine: dict[str, str], scene: Scene) -> None:
    exchange = EXCHANGES["get"](0)
    facts = {
        "request_size": len(exchange.request),
        "answer_size": exchange.size,
        "rounds": scene.rounds,
        "seconds": scene.seconds,
        "secrets": scene.secrets,
        "runs": RUNS_PER_ROUND * scene.rounds,
    }
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(results, machine, facts, pinned=scene.cores.pinned), "utf-8")
    print(f"Written to {PAGE.parent.name}/{PAGE.name}.")


def _stop(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
