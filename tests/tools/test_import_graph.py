"""What depends on what: each way in which a module may refer to another, and none missed in this tree."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tools.import_graph import distances, read_dependencies
from tools.layout import PACKAGES
from tools.tracked_text import project_files

ROOT = Path(__file__).parents[2]

FILES = {
    "agent/house/__init__.py": "",
    "agent/house/__main__.py": "from house.hall import open_door",
    "agent/house/hall.py": "def open_door():\n    import house.cellar",
    "agent/house/cellar.py": "",
    "agent/house/rooms/__init__.py": "",
    "agent/house/rooms/attic.py": "",
    "tests/support.py": "",
    "tools/program.py": "",
    "docs/page.md": "",
    "client/bin/house": "#!/bin/sh\n''':'\nexec python $0\n'''\nfrom house.hall import open_door",
    "client/bin/shed": "#!/usr/bin/env python\nfrom house.hall import open_door",
    "tests/conftest.py": "",
    "tests/near/child.py": "",
}

WHAT_IT_LOADS = """
import sys, keyholt_agent.main, keyholt.cli.dispatch
print(*(getattr(module, "__file__", None) or "" for module in list(sys.modules.values())), sep="\\n")
"""


@pytest.fixture(scope="module")
def tree() -> dict[str, set[str]]:
    """What depends on what in this very tree."""
    return read_dependencies(ROOT, project_files(ROOT))


def dependencies_of(root: Path, source: str) -> set[str]:
    """What ``tests/near/test_it.py`` depends on when this is what is in it."""
    files = {**FILES, "tests/near/test_it.py": source}
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return read_dependencies(root, files)["tests/near/test_it.py"] - {"tests/conftest.py"}


@pytest.mark.parametrize(
    "source, target",
    [
        ("import house.hall", "agent/house/hall.py"),
        ("import house.rooms.attic", "agent/house/rooms/__init__.py"),
        ("from house import hall", "agent/house/hall.py"),
        ("from house.hall import open_door", "agent/house/hall.py"),
        ("from tests import support", "tests/support.py"),
        ("def f():\n    from tools.program import main", "tools/program.py"),
        ("from . import child", "tests/near/child.py"),
        ("from ..support import it", "tests/support.py"),
        ("import_module('house.cellar')", "agent/house/cellar.py"),
        ("run([sys.executable, '-m', 'house'])", "agent/house/__main__.py"),
        ("'house.hall:open_door'", "agent/house/hall.py"),
        ("'house:rooms'", "agent/house/rooms/attic.py"),
        ("run(['-c', '''\n    import sys\n    import house.cellar\n'''])", "agent/house/cellar.py"),
        ("run([ROOT / 'client/bin/house'])", "client/bin/house"),
        ("Path(__file__).with_name('child.py')", "tests/near/child.py"),
        ("(ROOT / 'docs' / 'page.md').read_text()", "docs/page.md"),
        ("for path in (ROOT / 'docs').iterdir(): pass", "docs/page.md"),
        ("walk('agent/house/rooms')", "agent/house/rooms/attic.py"),
    ],
)
def test_each_kind_of_reference_is_seen(tmp_path: Path, source: str, target: str) -> None:
    """An import or a name, wherever it stands in the file, is a dependency."""
    assert target in dependencies_of(tmp_path, source)


@pytest.mark.parametrize(
    "source",
    [
        "import sys\nfrom os import path",
        "if TYPE_CHECKING:\n    from house.hall import open_door",
        "log = getLogger('house.nothing')\nname = 'hall'\nroom = 'docs'",
        "'imports of any kind, but no import of a program'",
    ],
)
def test_what_is_no_reference_is_none(tmp_path: Path, source: str) -> None:
    """Other libraries, what only a type checker reads, and words that happen to be names of something."""
    assert dependencies_of(tmp_path, source) == set()


def test_a_test_depends_on_the_fixtures_around_it(tmp_path: Path) -> None:
    """The ``conftest.py`` of the folders above, and nobody else than a test."""
    dependencies_of(tmp_path, "")
    dependencies = read_dependencies(tmp_path, [*FILES, "tests/near/test_it.py"])
    assert "tests/conftest.py" in dependencies["tests/near/test_it.py"]
    assert "tests/conftest.py" not in dependencies["tests/near/child.py"]


def test_distance_is_counted_in_references(tmp_path: Path) -> None:
    """The nearest way counts, and a script without an ending is followed like a module."""
    dependencies_of(tmp_path, "run([ROOT / 'client/bin/house'])")
    dependencies = read_dependencies(tmp_path, [*FILES, "tests/near/test_it.py"])
    found = distances(dependencies, "agent/house/cellar.py")
    assert found["agent/house/cellar.py"] == 0
    assert found["agent/house/hall.py"] == 1
    assert found["client/bin/house"] == found["client/bin/shed"] == 2
    assert found["tests/near/test_it.py"] == 3
    assert "tests/support.py" not in found


def test_every_file_of_the_packages_is_reached(tree: dict[str, set[str]]) -> None:
    """Each has a test that depends on it; one without would cost a run of the whole suite at each change."""
    sources = [name for name in tree if name.startswith(PACKAGES)]
    assert len(sources) > 50
    for name in sources:
        assert any(Path(one).name.startswith("test_") for one in distances(tree, name)), name


def test_processes_count_and_borders_hold(tree: dict[str, set[str]]) -> None:
    """Who starts the agent depends on all of it; who cannot load it does not."""
    reached = distances(tree, "agent/keyholt_agent/store/sqlite/schema.py")
    assert "tests/system/test_start.py" in reached
    assert "tests/client/test_blocking.py" in reached
    assert "tests/protocol/test_framing.py" not in reached


def test_nothing_that_python_loads_is_missed(tree: dict[str, set[str]]) -> None:
    """What a fresh interpreter has loaded of the project after an import is what the graph says, or less."""
    run = subprocess.run([sys.executable, "-c", WHAT_IT_LOADS], check=True, stdout=subprocess.PIPE, text=True)
    loaded = {str(Path(line).relative_to(ROOT)) for line in run.stdout.split() if line.startswith(f"{ROOT}/")}
    loaded = {name for name in loaded if name.startswith(PACKAGES)}
    assert len(loaded) > 50
    main, command = "agent/keyholt_agent/main.py", "client/keyholt/cli/dispatch.py"
    for name in loaded:
        found = distances(tree, name)
        assert main in found or command in found, name
