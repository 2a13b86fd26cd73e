"""The shape of the code: files, functions and names within the house's limits, and the means to tell."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest

from tests.support.programs import SOURCES
from tools.layout import FOLDERS, PACKAGES, measure, misplaced_tests, over_limits, read_modules
from tools.tracked_text import find_machine_bound_text, project_files

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_folder_keeps_the_limits(folder: str) -> None:
    """No file over 400 lines, no function over 60, nine in ten below 30, every file says what it is for."""
    modules = read_modules([ROOT / folder])
    assert len(modules) > 1
    assert over_limits(modules) == []


@pytest.mark.parametrize(
    "name, source, complaint",
    [
        ("long.py", '"""Doc."""\n' + "x = 1\n" * 400, "long.py: 401 lines, more than 400"),
        ("bare.py", "x = 1\n", "bare.py: no docstring says what it is for"),
        ("utils.py", '"""Doc."""\n', "utils.py: a name that says nothing"),
        ("f.py", '"""Doc."""\ndef f():\n' + "    x = 1\n" * 61, "f.py:2: f has 61 lines, more than 60"),
        ("f.py", '"""Doc."""\ndef f():\n' + "    x = 1\n" * 30, "1 of 1 functions have 30 lines or more"),
    ],
)
def test_limits_are_noticed(name: str, source: str, complaint: str) -> None:
    """Each limit, passed, is reported with its place."""
    assert complaint in over_limits([measure(Path(name), source)])


def test_docstring_is_no_code() -> None:
    """Explaining a function does not make it long."""
    source = '"""Doc."""\ndef f():\n    """Line.\n' + "\n" * 100 + '    """\n    return 1\n'
    (function,) = measure(Path("f.py"), source).functions
    assert function.length == 1


def test_every_package_is_shipped() -> None:
    """What the checks look at is what the wheel holds."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == list(PACKAGES)


def test_every_folder_of_code_is_a_package() -> None:
    """A folder without ``__init__.py`` would be a namespace that anybody may add to."""
    folders = {path.parent for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_tests_lie_where_the_code_lies() -> None:
    """Folder for folder, and a test that is named after a module beside no other."""
    names = project_files(ROOT)
    assert {name.split("/")[1] for name in names if name.startswith("tests/")} > {
        "agent",
        "client",
        "protocol",
    }
    assert misplaced_tests(names) == []


@pytest.mark.parametrize(
    "test, complaint",
    [
        ("tests/agent/keys/test_arena.py", "arena lies in agent/keyholt_agent/memory"),
        ("tests/agent/test_keys_of_all_kinds.py", None),
        ("tests/agent/test_store.py", None),
        ("tests/agent/vault/test_door.py", "there is no code in agent/keyholt_agent/vault"),
        ("tests/test_layout.py", "layout lies in tools"),
        ("tests/test_the_tree.py", None),
        ("tests/system/test_arena.py", None),
    ],
)
def test_misplaced_test_is_found(test: str, complaint: str | None) -> None:
    """Each way of lying elsewhere is told; tests of a behaviour, of processes and of the tree are free."""
    code = ["agent/keyholt_agent/main.py", "agent/keyholt_agent/memory/arena.py", "tools/layout.py"]
    packages = ["agent/keyholt_agent/memory/__init__.py", "agent/keyholt_agent/store/__init__.py"]
    expected = [] if complaint is None else [f"{test}: {complaint}"]
    assert misplaced_tests([*code, *packages, test]) == expected


def test_programs_are_one_text_that_starts_fast() -> None:
    """Both are executable, import nothing but their entry points, and differ in no more than their names."""
    client, agent = ROOT / "client/bin/keyholt", ROOT / "agent/bin/keyholt-agent"
    assert os.access(client, os.X_OK)
    assert os.access(agent, os.X_OK)
    lines = client.read_text("ascii").splitlines()
    assert lines[0] == "#!/bin/sh"
    code = [line.strip() for line in lines[lines.index("'''") :]]
    imports = [line for line in code if "import" in line]
    assert imports == [
        "import sys",
        "from keyholt.cli.entry import program",
        "import site",
        "from keyholt.cli.entry import program",
    ]
    renamed = client.read_text("ascii").replace("keyholt.cli.entry", "keyholt_agent.start")
    assert agent.read_text("ascii") == renamed.replace('"keyholt:', '"keyholt-agent:')


def test_programs_are_installed_as_they_lie_here() -> None:
    """What the tests start is what the wheel brings; no installer writes an entry point of its own."""
    for program, source in SOURCES.items():
        assert Path(program).read_bytes() == (ROOT / source).read_bytes()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert "scripts" not in project["project"]


@pytest.mark.parametrize(
    "text",
    [
        "https://" + "pypi" + ".org/simple",
        "http://" + "deb." + "debian.org/debian",
        "--index-url" + " https://mirror.example/simple",
        "path = /home/" + "alice/keyholt",
        "exec /root/" + ".local/bin/x",
    ],
)
def test_machine_bound_text_is_found(text: str) -> None:
    """What ``make check-text`` looks for in every file is found, with its line."""
    (found,) = find_machine_bound_text("notes.md", f"first\nsee {text}\n".encode())
    assert found.startswith("notes.md:2: ")
