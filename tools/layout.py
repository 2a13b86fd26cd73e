"""Reports how long files and functions are, in every folder of code, and names what is over the limits.

Usage: ``python tools/layout.py [FOLDER...]``; exits with 1 when something is over a limit.

- A function's length is that of its code: decorators, signature and docstring do not count.
- Tests lie in the folders that the code lies in, see ``misplaced_tests``.
- It counts and reports; it changes nothing. ``tests/tools/test_layout.py`` holds the same limits.
"""

from __future__ import annotations

import ast
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "FOLDERS",
    "PACKAGES",
    "Function",
    "Module",
    "measure",
    "misplaced_tests",
    "over_limits",
    "read_modules",
]

PACKAGES: Final = ("agent/keyholt_agent", "protocol/keyholt_protocol", "client/keyholt")

FOLDERS: Final = (*PACKAGES, "tests", "tools", "demo", "bench")
"""Where the limits hold: everywhere."""

TESTED_IN: Final = {
    "agent/keyholt_agent": "tests/agent",
    "protocol/keyholt_protocol": "tests/protocol",
    "client/keyholt": "tests/client",
    "tools": "tests/tools",
    "bench": "tests/bench",
    "tests/support": "tests/support",
}
"""Where the tests of each folder of code lie, folder for folder. Beside these are tests of whole processes
(``tests/system``, ``tests/torture``) and of the tree as a whole (``tests`` itself)."""

MAX_FILE_LINES: Final = 400
"""Past this, look for the seam."""

MAX_FUNCTION_LINES: Final = 60
"""More than one screen; a few functions may come near it."""

LONG_FUNCTION_LINES: Final = 30
"""Nine functions in ten stay below this."""

LONG_FUNCTION_SHARE: Final = 0.1

UNWANTED_NAMES: Final = frozenset({"utils", "util", "helpers", "helper", "common", "misc"})
"""A module is a noun or a stage of the path; these are neither."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """One function and the number of lines of its code."""

    name: str
    line: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """One file: its length in lines, whether it says what it is for, its functions."""

    path: Path
    length: int
    documented: bool
    functions: tuple[Function, ...]


def measure(path: Path, source: str) -> Module:
    """Measures one file from its text."""
    tree = ast.parse(source)
    return Module(
        path=path,
        length=source.count("\n"),
        documented=not tree.body or ast.get_docstring(tree) is not None,
        functions=tuple(
            Function(name=node.name, line=node.lineno, length=_code_lines(node))
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ),
    )


def read_modules(folders: list[Path]) -> list[Module]:
    """Measures every Python file below the folders."""
    files = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    return [measure(path, path.read_text("utf-8")) for path in files]


def over_limits(modules: list[Module]) -> list[str]:
    """Says, a line each, what is over a limit."""
    found = [
        *(
            f"{m.path}: {m.length} lines, more than {MAX_FILE_LINES}"
            for m in modules
            if m.length > MAX_FILE_LINES
        ),
        *(f"{m.path}: no docstring says what it is for" for m in modules if not m.documented),
        *(f"{m.path}: a name that says nothing" for m in modules if m.path.stem in UNWANTED_NAMES),
        *(
            f"{m.path}:{f.line}: {f.name} has {f.length} lines, more than {MAX_FUNCTION_LINES}"
            for m in modules
            for f in m.functions
            if f.length > MAX_FUNCTION_LINES
        ),
    ]
    lengths = [function.length for module in modules for function in module.functions]
    long = sum(length >= LONG_FUNCTION_LINES for length in lengths)
    if long > LONG_FUNCTION_SHARE * len(lengths):
        found.append(f"{long} of {len(lengths)} functions have {LONG_FUNCTION_LINES} lines or more")
    return found


def misplaced_tests(names: Iterable[str]) -> list[str]:
    """Says, a line each, which tests do not lie where their code lies; ``names`` are all files of the tree.

    A test lies in a folder that mirrors one of the code. If it is named after a module, it is that folder's.
    """
    modules = [PurePosixPath(name).with_suffix("") for name in names if name.endswith(".py")]
    found: list[str] = []
    for test in (module for module in modules if module.name.startswith("test_")):
        subject, folder = test.name.removeprefix("test_"), _mirrored(test)
        roots = [root for root, tests in TESTED_IN.items() if test.is_relative_to(tests)]
        if str(test.parent) == "tests":
            roots = list(TESTED_IN)
        homes = {m.parent for m in modules if m.name == subject and any(map(m.is_relative_to, roots))}
        if homes and folder not in homes:
            found.append(f"{test}.py: {subject} lies in {min(homes)}")
        elif folder is not None and folder not in {module.parent for module in modules}:
            found.append(f"{test}.py: there is no code in {folder}")
    return sorted(found)


def _mirrored(test: PurePosixPath) -> PurePosixPath | None:
    """The folder of code whose tests lie where ``test`` lies; None beside them."""
    for code, tests in TESTED_IN.items():
        if test.is_relative_to(tests):
            return PurePosixPath(code) / test.parent.relative_to(tests)
    return None


def _code_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    if not body:
        return 0
    return (body[-1].end_lineno or body[-1].lineno) - body[0].lineno + 1


def _report(folder: Path, modules: list[Module]) -> str:
    files = [module.length for module in modules] or [0]
    functions = [function.length for module in modules for function in module.functions] or [0]
    ninth = sorted(functions)[int(0.9 * (len(functions) - 1))]
    return (
        f"{folder}: {len(modules)} files, median {statistics.median(files):.0f} lines, longest {max(files)}; "
        f"{len(functions)} functions, median {statistics.median(functions):.0f} lines, "
        f"nine in ten up to {ninth}, longest {max(functions)}"
    )


def main(arguments: list[str]) -> int:
    """Prints the report; returns the exit status."""
    folders = [Path(name) for name in arguments or FOLDERS]
    for folder in folders:
        print(_report(folder, read_modules([folder])))
    found = over_limits(read_modules(folders))
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
