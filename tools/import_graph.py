"""What depends on what among the project's files: by imports, and by what a module names in its strings.

A module depends on

- what it imports, inside functions too, with the ``__init__`` of every package on the way; not on what it
  imports for type checkers alone, which is never loaded;
- the ``conftest.py`` of its folder and of those above, if it is a test;
- a module that a string names, as ``python -m`` and importlib take them: who starts ``keyholt_agent`` as a
  process depends on all that the agent loads;
- what a program in a string imports;
- a file or folder that a string names, from the root of the project, from the module's own folder, or by the
  end of its path where only one file has it.

It errs on the side of too many: a string that names a file by chance adds a dependency. A name that is put
together at run time loses one. It runs nothing, and reads nothing but the source.
"""

from __future__ import annotations

import ast
import textwrap
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["distances", "read_dependencies"]

LONGEST_PATH: Final = 200
"""Characters. A longer string names no file of the project."""

ROOMS: Final = frozenset({"agent", "protocol", "client", "demo"})
"""The folders that modules are imported from, besides the root."""


@dataclass
class _References(ast.NodeVisitor):
    """What one module refers to.

    Attributes:
        package: the names of the packages around the module, for relative imports.
        imported: full names; of ``from a import b`` both ``a`` and ``a.b``, of which the one may be none.
        strings: every string, docstrings among them.
        joined: strings to the right of a ``/``, which are parts of paths.
    """

    package: tuple[str, ...]
    imported: set[str] = field(default_factory=set[str])
    strings: set[str] = field(default_factory=set[str])
    joined: set[str] = field(default_factory=set[str])

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            for other in node.orelse:
                self.visit(other)
        else:
            self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        self.imported.update(alias.name for alias in node.names)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        around = self.package[: len(self.package) - node.level + 1] if node.level else ()
        origin = ".".join((*around, *filter(None, [node.module])))
        self.imported.add(origin)
        self.imported.update(f"{origin}.{alias.name}" for alias in node.names)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        match node:
            case ast.BinOp(op=ast.Div(), right=ast.Constant(value=str(text))):
                self.joined.add(text)
            case _:
                pass
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if not isinstance(node.value, str):
            return
        self.strings.add(node.value)
        if "import " in node.value:
            try:
                program = ast.parse(textwrap.dedent(node.value))
            except SyntaxError:
                return
            self.visit(program)


class _Files:
    """The files of the project, and how a module may refer to one."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names: Final = frozenset(names)
        self._modules: Final = {module: name for name in self.names for module in _module_names(name)}
        self._ends: Final[dict[str, list[str]]] = defaultdict(list)
        self._folders: Final[dict[str, list[str]]] = defaultdict(list)
        for name in self.names:
            parts = name.split("/")
            for start in range(len(parts)):
                self._ends["/".join(parts[start:])].append(name)
                self._folders["/".join(parts[:start])].append(name)

    def imported(self, module: str) -> Iterator[str]:
        """The files that importing a module loads, if it is one of the project's."""
        parts = module.split(".")
        for end in range(1, len(parts) + 1):
            if (name := self._modules.get(".".join(parts[:end]))) is not None:
                yield name

    def loaded(self, text: str) -> Iterator[str]:
        """The files of a module that a string names: ``package``, ``package.module`` or ``module:name``."""
        if text + ".__main__" in self._modules:
            yield from self.imported(text + ".__main__")
        elif "." in text and text in self._modules:
            yield from self.imported(text)
        elif ":" in text:
            module, _, name = text.partition(":")
            yield from self.imported(f"{module}.{name}")
            # A folder of modules that are found by looking into it.
            if (package := self._modules.get(f"{module}.{name}")) is not None:
                yield from self._folders[str(PurePosixPath(package).parent)]

    def named(self, text: str, folder: str, *, joined: bool) -> Iterator[str]:
        """The files that a path in a string names, seen from ``folder``."""
        path = text.strip("/")
        if not path or len(path) > LONGEST_PATH:
            return
        beside = str(PurePosixPath(folder, path))
        if beside in self.names or path in self.names:
            yield from self.names & {beside, path}
        elif "." in PurePosixPath(path).name and len(self._ends.get(path, ())) == 1:
            yield from self._ends[path]
        elif joined or "/" in path:
            yield from self._folders.get(path, ())


def read_dependencies(root: Path, names: Iterable[str]) -> dict[str, set[str]]:
    """What each of the files depends on itself; those that are no Python, or not there, depend on nothing."""
    files = _Files(names)
    return {name: _dependencies(root, name, files) - {name} for name in files.names}


def distances(dependencies: Mapping[str, set[str]], changed: str) -> dict[str, int]:
    """How far each file that depends on ``changed`` is from it: itself 0, who refers to it 1, and so on."""
    dependants: dict[str, set[str]] = defaultdict(set)
    for name, needed in dependencies.items():
        for one in needed:
            dependants[one].add(name)
    found = {changed: 0}
    ring = [changed]
    while ring:
        following = {name for one in ring for name in dependants[one]} - found.keys()
        distance = found[ring[0]] + 1
        found.update(dict.fromkeys(following, distance))
        ring = list(following)
    return found


def _dependencies(root: Path, name: str, files: _Files) -> set[str]:
    source = _python(root / name)
    if source is None:
        return set()
    folder = str(PurePosixPath(name).parent)
    references = _References(_package(name))
    references.visit(ast.parse(source))
    return {
        *(file for module in references.imported for file in files.imported(module)),
        *(file for text in references.strings for file in files.loaded(text)),
        *(
            file
            for text in references.strings
            for file in files.named(text, folder, joined=text in references.joined)
        ),
        *(conftest for conftest in _conftests(name) if conftest in files.names),
    }


def _python(path: Path) -> str | None:
    """The source, if the file is there and is Python: by its ending, or by its first line.

    A program may be a shell script first, in quotes that Python reads as a docstring.
    """
    if not path.is_file():
        return None
    if path.suffix != ".py":
        with path.open("rb") as file:
            first, second = file.readline(100), file.readline(100)
        if not first.startswith(b"#!") or not (b"python" in first or second.startswith(b"'''")):
            return None
    return path.read_text("utf-8")


def _module_names(name: str) -> list[str]:
    """The names under which a file can be imported."""
    if not name.endswith(".py"):
        return []
    parts = PurePosixPath(name.removesuffix("/__init__.py").removesuffix(".py")).parts
    return [".".join(parts), *([".".join(parts[1:])] if parts[0] in ROOMS and len(parts) > 1 else [])]


def _package(name: str) -> tuple[str, ...]:
    """The names of the packages around a file, for its relative imports."""
    folders = PurePosixPath(name).parent.parts
    return folders[1:] if folders and folders[0] in ROOMS else folders


def _conftests(name: str) -> Iterator[str]:
    path = PurePosixPath(name)
    if path.name.startswith("test_") or path.name == "conftest.py":
        for folder in path.parents:
            yield str(folder / "conftest.py")
