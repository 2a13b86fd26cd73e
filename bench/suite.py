"""The benchmark as a whole: which scenarios there are, their order, and what is made of their results.

- A directory on a disk is made for it and removed, whatever happens; so are the processes.
- A missed target is a result, not a failure. A wrong answer, or a process that does not start, is one: it
  ends its scenario, and the page is not written.
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
from bench.figures import Cost, Figure, Note, Result
from bench.machine import Cores, describe_machine, file_system
from bench.processes import BenchError
from bench.report import page
from bench.scenario_command import RUNS_PER_ROUND, command
from bench.scenario_connect import connect
from bench.scenario_fetch import fetch, idle
from bench.scenario_flood import flood
from bench.scenario_library import library
from bench.scenario_listing import listing
from bench.scenario_many import first_fetch, import_file
from bench.scenario_memory import memory
from bench.scenario_million import million
from bench.scenario_start import start
from bench.scenario_writers import writers
from bench.scene import Scenario, Scene

__all__ = ["SCENARIOS", "run_suite"]

SCENARIOS: Final[dict[str, Scenario]] = {
    "fetch": fetch,
    "idle": idle,
    "flood": flood,
    "connect": connect,
    "library": library,
    "command": command,
    "start": start,
    "writers": writers,
    "import": import_file,
    "first-fetch": first_fetch,
    "memory": memory,
    "million": million,
    "listing": listing,
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
    results: list[Result] = []
    failed: list[str] = []
    try:
        with tempfile.TemporaryDirectory(prefix="keyholt-bench-", dir=place) as directory:
            scene = _scene(Path(directory), quick=quick)
            machine = {**describe_machine(), "store on": file_system(Path(directory))}
            print(f"other load: {machine['other load']}", file=sys.stderr)
            for name in names or SCENARIOS:
                print(f"{name}:", file=sys.stderr, flush=True)
                try:
                    results += SCENARIOS[name](scene)
                except BenchError as error:
                    print(f"bench: {name}: {error}", file=sys.stderr)
                    failed.append(name)
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return INTERRUPTED
    _tell(results, scene.cores, time.monotonic() - begun)
    if failed:
        print(f"bench: not measured: {', '.join(failed)}", file=sys.stderr)
        return 1
    if not names and not quick:
        _write_page(results, machine, scene)
    return 0


def _scene(directory: Path, *, quick: bool) -> Scene:
    cores = Cores.available()
    if quick:
        return Scene(directory=directory, cores=cores, rounds=3, seconds=0.5, secrets=10_000, million=100_000)
    return Scene(directory=directory, cores=cores)


def _tell(results: Sequence[Result], cores: Cores, seconds: float) -> None:
    figures = [one for one in results if isinstance(one, Figure)]
    print("\n" + chart(figures) + "\n")
    for one in results:
        if isinstance(one, Figure):
            print(f"{one.title}: {one.measured}")
        elif isinstance(one, Note):
            print(f"{one.title}: {one.verdict + ': ' if one.verdict else ''}{one.text}")
    for one in results:
        if isinstance(one, Cost):
            print(f"{one.title} costs {one.text}")
    if not cores.pinned:
        print("One core: the agent and the load generator share it, nothing is pinned.")
    missed = sum(not one.reached for one in figures)
    print(f"\n{len(figures) - missed} of {len(figures)} targets reached, {seconds:.0f} s.")


def _write_page(results: Sequence[Result], machine: dict[str, str], scene: Scene) -> None:
    facts = {
        "rounds": scene.rounds,
        "seconds": scene.seconds,
        "secrets": scene.secrets,
        "million": scene.million,
        "runs": RUNS_PER_ROUND * scene.rounds,
    }
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(results, machine, facts, pinned=scene.cores.pinned), "utf-8")
    print(f"Written to {PAGE.parent.name}/{PAGE.name}.")


def _stop(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
