"""Reports how long the files and functions of the packages are, and names what is over the house's limits.

Usage: ``python tools/layout.py [FOLDER...]``; exits with 1 when something is over a limit.

- A function's length is that of its code: decorators, signature and docstring do not count.
- It counts and reports; it changes nothing. ``tests/test_layout.py`` holds the same limits.
"""

from __future__ import annotations

import ast
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["PACKAGES", "Function", "Module", "measure", "over_limits", "read_modules"]

PACKAGES: Final = ("agent/keyholt_agent", "protocol/keyholt_protocol", "client/keyholt")

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
    folders = [Path(name) for name in arguments or PACKAGES]
    for folder in folders:
        print(_report(folder, read_modules([folder])))
    found = over_limits(read_modules(folders))
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
