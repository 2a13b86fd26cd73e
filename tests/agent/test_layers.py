"""The rooms of the agent lie in layers: each imports what is below it, and nothing beside or above.

The table here is the one of docs/architecture.md, which is held against it.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.test_imports import imports_of

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[2]
AGENT: Final = ROOT / "agent/keyholt_agent"

LAYERS: Final = (
    ("__main__",),
    ("start",),
    ("main",),
    ("transport", "handlers"),
    ("pipeline", "services"),
    ("vault",),
    ("keys", "store"),
    ("config", "hardening"),
    ("memory", "key_states", "sealed_state", "principal", "quotas", "clocks", "ownership", "defects"),
    ("",),  # the package itself, which has the version
)
"""The uppermost first. Rooms of one layer do not know each other."""

TIMELESS: Final = ("keys", "vault")
"""Where time and randomness are arguments."""

SOURCES_OF_CHANCE: Final = {
    "time", "datetime", "random", "secrets", "uuid", "os.urandom", "os.getrandom", "trio.current_time",
    "keyholt_agent.memory.syscalls",
}  # fmt: skip
"""What reads a clock or draws at random; ``syscalls`` has the getrandom(2) that fills locked memory."""

ALLOWED_CHANCE: Final = {
    ("keys/randomness.py", "os.getrandom"),
    ("keys/randomness.py", "os.urandom"),
    ("keys/randomness.py", "keyholt_agent.memory.syscalls"),
}
"""The one module that is a source of randomness."""


def room_of(module: str) -> str:
    """The room that a module of the agent is in."""
    return module.removeprefix("keyholt_agent").lstrip(".").partition(".")[0]


def level_of(room: str) -> int | None:
    """How far down a room is; None if it is in no layer."""
    return next((level for level, rooms in enumerate(LAYERS) if room in rooms), None)


def imported_modules(source: str, folder: tuple[str, ...]) -> set[tuple[int, str]]:
    """The line and full name of everything imported, the agent's own modules each by its name."""
    found = imports_of(source, ("keyholt_agent", *folder))
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.ImportFrom(module="keyholt_agent", level=0, names=names):
                rooms = (alias.name for alias in names if alias.name != "__version__")
                found |= {(node.lineno, f"keyholt_agent.{room}") for room in rooms}
                found.discard((node.lineno, "keyholt_agent"))
            case _:
                pass
    return found


def breaches(agent: Path) -> Iterator[str]:
    """Says, a line each, which import does not go down, and which room has no layer."""
    for path in sorted(agent.rglob("*.py")):
        relative = path.relative_to(agent)
        room = relative.parts[0].removesuffix(".py").replace("__init__", "")
        level = level_of(room)
        if level is None:
            yield f"{relative}: {room} is in no layer"
            continue
        for line, imported in sorted(imported_modules(path.read_text("utf-8"), relative.parts[:-1])):
            if imported.partition(".")[0] != "keyholt_agent" or room_of(imported) == room:
                continue
            below = level_of(room_of(imported))
            if below is None or below <= level:
                yield f"{relative}:{line}: {room} may not import {imported}"


def chance(agent: Path, rooms: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Every source of time or randomness that a file of those rooms takes hold of."""
    for path in sorted(path for room in rooms for path in (agent / room).rglob("*.py")):
        source = path.read_text("utf-8")
        relative = str(path.relative_to(agent))
        names = {imported for _, imported in imports_of(source, ())}
        for node in ast.walk(ast.parse(source)):
            match node:
                case ast.Attribute(value=ast.Name(id=module), attr=name):
                    names.add(f"{module}.{name}")
                case ast.ImportFrom(module=str(module), names=aliases):
                    names.update(f"{module}.{alias.name}" for alias in aliases)
                case _:
                    pass
        yield from ((relative, name) for name in sorted(names & SOURCES_OF_CHANCE))


def test_every_import_goes_down() -> None:
    """No room knows what is above it, and keys and store not each other."""
    assert list(breaches(AGENT)) == []


@pytest.mark.parametrize(
    "file, source",
    [
        ("services.py", "import os\nfrom keyholt_agent.transport.server import Server"),
        ("keys/keyring.py", "import os\nfrom keyholt_agent.store import Store"),
        ("store/store.py", "import os\nimport keyholt_agent.keys.keyring"),
        ("memory/arena.py", "import os\nfrom keyholt_agent import config"),
        ("vault/vault.py", "import os\nfrom ..services import Services"),
        ("handlers/secret.py", "if 1:\n    from keyholt_agent.transport.session import Session"),
        ("vault/vault.py", "import os\nfrom keyholt_agent.attic import thing"),
    ],
)
def test_planted_import_is_found(tmp_path: Path, file: str, source: str) -> None:
    """Upwards, sideways, relative, in a block, of a room that no layer has: it is named with its place."""
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
    (breach,) = breaches(tmp_path)
    assert breach.startswith(f"{file}:2: ")


def test_room_without_a_layer_is_found(tmp_path: Path) -> None:
    """A new room has to be given a place."""
    (tmp_path / "attic.py").write_text("")
    assert list(breaches(tmp_path)) == ["attic.py: attic is in no layer"]


def test_the_document_has_the_same_layers() -> None:
    """docs/architecture.md shows them, the uppermost first."""
    text = (ROOT / "docs/architecture.md").read_text()
    table = text.partition("## Layers")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    shown = [{room.strip(" `") for room in row.split(",")} for row in rows]
    assert shown == [set(rooms) for rooms in LAYERS if rooms != ("",)]


def test_time_and_randomness_are_arguments() -> None:
    """No file of the keys or the vault reads a clock or draws at random, but for the source of randomness."""
    assert set(chance(AGENT, TIMELESS)) == ALLOWED_CHANCE


@pytest.mark.parametrize(
    "source, name",
    [
        ("import time\ntime.time()", "time"),
        ("from time import monotonic", "time"),
        ("import os\nos.urandom(16)", "os.urandom"),
        ("from os import urandom", "os.urandom"),
        ("import trio\nclock = trio.current_time", "trio.current_time"),
        ("from trio import current_time", "trio.current_time"),
        ("import secrets\nsecrets.token_bytes(1)", "secrets"),
        ("from keyholt_agent.memory.syscalls import fill_random", "keyholt_agent.memory.syscalls"),
    ],
)
def test_planted_chance_is_found(tmp_path: Path, source: str, name: str) -> None:
    """However it is taken hold of."""
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys/kdf.py").write_text(source)
    assert ("keys/kdf.py", name) in set(chance(tmp_path, ("keys",)))
