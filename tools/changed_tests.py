"""Runs the tests that a change can make fail: those that refer to what has changed first.

Usage: ``python tools/changed_tests.py [--since REF] [--near] [--list] [PYTEST ARGUMENTS...]``.

- What has changed: all that differs from where this branch left REF (``origin/main``, or ``HEAD`` where there
  is no such branch), committed or not, and what git does not know yet.
- What a change reaches is told by ``import_graph``: modules import each other, and name programs and files.
- Where that says nothing, it runs the whole suite: for a file that no test reaches, and for what every test
  stands on. Prose that no module names is read by no test, and selects none.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.import_graph import distances, read_dependencies
from tools.tracked_text import project_files

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Selection", "changed_files", "select"]

ROOT: Final = Path(__file__).resolve().parent.parent

MAIN: Final = "origin/main"

FOUNDATIONS: Final = frozenset({"pyproject.toml"})
"""What holds for every test, whoever names it."""

PROSE: Final = ".md"
"""The ending of what is written for people."""

NEAR: Final = 1
"""The distance of a test that refers to what has changed itself."""

NOTHING_COLLECTED: Final = 5
"""pytest's exit status where every test that was named is left out, by a marker or by ``-k``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which test modules a change can make fail, by their paths.

    Attributes:
        near: those that changed, refer to what changed themselves or are named after it; if there are none,
            those that reach it soonest.
        far: those that reach it through others.
        unknown: what has changed and no test is known to reach: then all tests have to run.
    """

    near: tuple[str, ...]
    far: tuple[str, ...]
    unknown: tuple[str, ...]


def select(root: Path, files: Sequence[str], changed: Sequence[str]) -> Selection:
    """Selects the tests for ``changed`` among ``files``; paths are relative to ``root``.

    A changed file that is gone need not be among the files.
    """
    dependencies = read_dependencies(root, {*files, *changed})
    reached: dict[str, bool] = {}
    unknown: list[str] = []
    for name in changed:
        found = {
            test: distance
            for test, distance in distances(dependencies, name).items()
            if _is_test(test) and (root / test).is_file()
        }
        nearest = max(NEAR, min(found.values(), default=NEAR))
        for test, distance in found.items():
            near = distance <= nearest or PurePosixPath(test).stem == f"test_{PurePosixPath(name).stem}"
            reached[test] = near or reached.get(test, False)
        if name in FOUNDATIONS or not (found or _needs_no_test(name)):
            unknown.append(name)
    return Selection(
        near=tuple(sorted(test for test, near in reached.items() if near)),
        far=tuple(sorted(test for test, near in reached.items() if not near)),
        unknown=tuple(unknown),
    )


def changed_files(root: Path, since: str) -> list[str]:
    """What differs from where the present branch left ``since``, and what git does not know yet."""
    if _git(root, "rev-parse", "--verify", "--quiet", since, check=False):
        base = _git(root, "merge-base", since, "HEAD")[0]
    else:
        base = "HEAD"
    differing = _git(root, "diff", "--name-only", "--no-renames", "-z", base)
    return sorted({*differing, *_git(root, "ls-files", "--others", "--exclude-standard", "-z")})


def _is_test(name: str) -> bool:
    return name.startswith("tests/") and PurePosixPath(name).name.startswith("test_")


def _needs_no_test(name: str) -> bool:
    """Whether a file that no test reaches makes none fail: prose, or a test that is gone."""
    return name.endswith(PROSE) or _is_test(name)


def _git(root: Path, *arguments: str, check: bool = True) -> list[str]:
    # A clone may belong to another user than the one who tests it: git would refuse to read it.
    command = ["git", "-c", "safe.directory=*", *arguments]
    said = subprocess.run(command, cwd=root, check=check, stdout=subprocess.PIPE).stdout.decode("utf-8")
    return [line for line in said.replace("\0", "\n").splitlines() if line]


def main(arguments: Sequence[str], root: Path = ROOT) -> int:
    """Runs what is selected; returns the exit status, which is pytest's."""
    parser = argparse.ArgumentParser(description="Run the tests of what has changed.", allow_abbrev=False)
    parser.add_argument(
        "--since", default=MAIN, metavar="REF", help=f"what to compare with, {MAIN} if not given"
    )
    parser.add_argument("--near", action="store_true", help="leave out those that reach it through others")
    parser.add_argument("--list", action="store_true", help="name the test modules, and run none")
    options, for_pytest = parser.parse_known_args(arguments)
    changed = changed_files(root, options.since)
    files = project_files(root)
    selection = select(root, files, changed)
    runs = _runs(selection)[: 1 if options.near else None]
    print(f"{len(changed)} files have changed. {_explain(selection, sum(map(_is_test, files)))}", flush=True)
    if options.list:
        print("\n".join(test for run in runs for test in run))
        return 0
    for run in runs:
        command = [sys.executable, "-m", "pytest", *for_pytest, *run]
        status = subprocess.run(command, cwd=root, check=False).returncode
        if status not in {0, NOTHING_COLLECTED}:
            return status
    return 0


def _runs(selection: Selection) -> list[tuple[str, ...]]:
    """The test modules of each run of pytest, in order."""
    if selection.unknown:
        return [("tests",)]
    return [run for run in (selection.near, selection.far) if run]


def _explain(selection: Selection, modules: int) -> str:
    if selection.unknown:
        return f"All tests run, since nothing tells which of them need {', '.join(selection.unknown)}."
    reached = len(selection.near) + len(selection.far)
    return f"It reaches {reached} of {modules} test modules; the {len(selection.near)} nearest run first."


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
