"""Who may import whom: ``agent -> protocol <- client``, and nothing else.

- Read from the source, so that an import inside a function or a branch counts too.
- What a bare ``import keyholt`` loads is asked of a fresh interpreter.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT = Path(__file__).parent.parent

PACKAGES: Final = {
    "keyholt_protocol": ROOT / "protocol/keyholt_protocol",
    "keyholt": ROOT / "client/keyholt",
    "keyholt_agent": ROOT / "agent/keyholt_agent",
}

ALLOWED: Final = {
    "keyholt_protocol": {"msgpack"},
    "keyholt": {"msgpack", "keyholt_protocol"},
    "keyholt_agent": {
        "keyholt_protocol",
        *("alembic", "argon2", "cryptography", "msgpack", "outcome", "sqlalchemy", "trio"),
    },
}

# These modules of the client are for users of a package, who have it.
ALLOWED_IN_FILE: Final = {
    "keyholt/trio.py": {"trio"},
    "keyholt/pydantic_field.py": {"pydantic_core"},
    "keyholt/pytest_plugin.py": {"pytest"},
}

STANDARD: Final = sys.stdlib_module_names

WHAT_IT_LOADS: Final = """
import sys
before = set(sys.modules)
import {module}
print(*{{name.partition(".")[0] for name in set(sys.modules) - before}} - sys.stdlib_module_names)
"""


def imports_of(source: str, package: tuple[str, ...]) -> set[tuple[int, str]]:
    """Returns the line and full name of everything imported; relative imports are resolved in ``package``."""
    found: set[tuple[int, str]] = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import():
                found.update((node.lineno, alias.name) for alias in node.names)
            case ast.ImportFrom(level=0, module=str(module)):
                found.add((node.lineno, module))
            case ast.ImportFrom(level=level):
                # One level is the package itself; what goes above the outermost is named as it would fail.
                base = package[: len(package) - level + 1]
                found.add((node.lineno, ".".join((*base, node.module or "")) or "."))
            case ast.Call(func=ast.Name(id="__import__") | ast.Attribute(attr="import_module")):
                found.update(
                    (node.lineno, argument.value)
                    for argument in node.args[:1]
                    if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
                )
            case _:
                pass
    return found


def forbidden_edges(packages: dict[str, Path]) -> list[str]:
    """Says, a line each, which import crosses a border that it may not."""
    found: list[str] = []
    for name, folder in packages.items():
        for path in sorted(folder.rglob("*.py")):
            relative = path.relative_to(folder.parent)
            allowed = {name} | ALLOWED[name] | ALLOWED_IN_FILE.get(str(relative), set()) | STANDARD
            found.extend(
                f"{relative}:{line}: {name} may not import {imported}"
                for line, imported in sorted(imports_of(path.read_text("utf-8"), relative.parent.parts))
                if imported.partition(".")[0] not in allowed
            )
    return found


def loaded_by(module: str) -> set[str]:
    """Returns what importing a module loads in a fresh interpreter, the standard library left out."""
    program = WHAT_IT_LOADS.format(module=module)
    run = subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.PIPE, text=True)
    return set(run.stdout.split())


def test_only_the_allowed_edges_exist() -> None:
    """The agent and the client import the protocol; it imports neither, nor they each other."""
    assert all(any(folder.rglob("*.py")) for folder in PACKAGES.values())
    assert forbidden_edges(PACKAGES) == []


@pytest.mark.parametrize(
    "package, file, source",
    [
        ("keyholt_protocol", "framing.py", "import socket\nimport keyholt_agent.config"),
        ("keyholt_protocol", "framing.py", "import socket\nfrom keyholt import secret"),
        ("keyholt_protocol", "framing.py", "import socket\nimport trio"),
        ("keyholt", "secret.py", "import socket\nfrom keyholt_agent.memory.arena import Arena"),
        ("keyholt", "secret.py", "def f():\n    import trio"),
        ("keyholt", "cli/trio.py", "if 1:\n    import trio"),
        ("keyholt_agent", "main.py", "import trio\nfrom keyholt.secret import Secret"),
        ("keyholt_agent", "main.py", "import importlib\nimportlib.import_module('keyholt.secret')"),
        ("keyholt_agent", "main.py", "import trio\nimport click"),
        ("keyholt_agent", "main.py", "import trio\nfrom ...client import keyholt"),
    ],
)
def test_planted_edge_is_found(tmp_path: Path, package: str, file: str, source: str) -> None:
    """A forbidden import is reported with its place, wherever in the file it stands."""
    path = tmp_path / package / file
    path.parent.mkdir(parents=True)
    path.write_text(source)
    (edge,) = forbidden_edges({package: tmp_path / package})
    assert edge.startswith(f"{package}/{file}:2: {package} may not import ")


def test_trio_is_allowed_in_its_adapter_only(tmp_path: Path) -> None:
    """``keyholt.trio`` imports trio; what it shares with the others does not."""
    package = tmp_path / "keyholt"
    package.mkdir()
    (package / "trio.py").write_text("import trio\nfrom . import secret\nimport keyholt_protocol.framing\n")
    assert forbidden_edges({"keyholt": package}) == []


def test_importing_the_library_loads_msgpack_and_the_standard_library_only() -> None:
    """A program that uses the client pays for nothing else."""
    assert loaded_by("keyholt") <= {"keyholt", "keyholt_protocol", "msgpack"}


def test_the_command_starts_on_next_to_nothing() -> None:
    """The entry point of ``keyholt`` loads no third party's code beside msgpack."""
    assert loaded_by("keyholt.cli.entry") <= {"keyholt", "keyholt_protocol", "msgpack"}


def test_a_loaded_third_party_is_noticed() -> None:
    """The question put to the fresh interpreter would see trio."""
    assert "trio" in loaded_by("trio")
