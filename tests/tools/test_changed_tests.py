"""Which tests a change selects, and that they are run in the order of their nearness."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tools.changed_tests import changed_files, main, select

FILES = {
    "pyproject.toml": "[tool.pytest.ini_options]\npythonpath = 'agent'\naddopts = '--import-mode=importlib'",
    ".gitignore": "__pycache__/\n",
    "Makefile": "all:\n",
    "README.md": "Read me.",
    "docs/page.md": "A page.",
    "agent/house/__init__.py": "",
    "agent/house/cellar.py": "WINE = 1\n",
    "agent/house/hall.py": "from house.cellar import WINE\n",
    "agent/house/shed.py": "",
    "tests/test_cellar.py": "from house.cellar import WINE\n\ndef test_it():\n    assert WINE\n",
    "tests/test_hall.py": "from house.hall import WINE\nfrom pathlib import Path\n\ndef test_it():\n"
    "    Path(__file__).with_name('has_run').touch()\n    assert WINE\n",
    "tests/test_page.py": "def test_it():\n    open('docs/page.md')\n",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository with a few modules and tests, all committed."""
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    commit(tmp_path)
    return tmp_path


def git(project: Path, *arguments: str) -> None:
    """Run git as somebody, whoever runs the tests."""
    somebody = [
        "-c",
        "user.name=Somebody",
        "-c",
        "user.email=somebody@example.org",
        "-c",
        "commit.gpgsign=false",
    ]
    subprocess.run(["git", *somebody, *arguments], cwd=project, check=True)


def commit(project: Path) -> None:
    """Commit everything."""
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "--message=A change")


@pytest.mark.parametrize(
    "changed, near, far",
    [
        ("agent/house/cellar.py", ["tests/test_cellar.py"], ["tests/test_hall.py"]),
        ("agent/house/hall.py", ["tests/test_hall.py"], []),
        ("tests/test_hall.py", ["tests/test_hall.py"], []),
        ("docs/page.md", ["tests/test_page.py"], []),
        ("README.md", [], []),
    ],
)
def test_change_selects_its_tests(project: Path, changed: str, near: list[str], far: list[str]) -> None:
    """Those that refer to it, those that reach it through others; none for prose that nobody reads."""
    selection = select(project, list(FILES), [changed])
    assert (list(selection.near), list(selection.far), selection.unknown) == (near, far, ())


@pytest.mark.parametrize(
    "changed", ["Makefile", "agent/house/shed.py", "agent/house/gone.py", "pyproject.toml"]
)
def test_unknown_change_selects_all(project: Path, changed: str) -> None:
    """What no test reaches, what was removed and is not missed, what holds for every test."""
    selection = select(project, list(FILES), ["docs/page.md", changed])
    assert selection.unknown == (changed,)


def test_removed_module_selects_who_imports_it(project: Path) -> None:
    """Its importers are about to fail. A test that was removed is not run."""
    (project / "agent/house/cellar.py").unlink()
    (project / "tests/test_page.py").unlink()
    changed = changed_files(project, "HEAD")
    assert changed == ["agent/house/cellar.py", "tests/test_page.py"]
    selection = select(project, [name for name in FILES if (project / name).exists()], changed)
    assert selection.near == ("tests/test_cellar.py",)
    assert selection.far == ("tests/test_hall.py",)
    assert selection.unknown == ()


def test_module_without_a_test_of_its_own_has_near_ones(project: Path) -> None:
    """Where no test refers to what has changed, those that reach it soonest are run first."""
    (project / "tests/test_cellar.py").unlink()
    selection = select(project, [*FILES.keys() - {"tests/test_cellar.py"}], ["agent/house/cellar.py"])
    assert (selection.near, selection.far) == (("tests/test_hall.py",), ())


def test_everything_since_the_branch_was_left(project: Path) -> None:
    """Committed, staged, changed and new files alike; not what went into the other branch meanwhile."""
    git(project, "checkout", "--quiet", "-b", "work")
    (project / "agent/house/hall.py").write_text("WINE = 2\n")
    commit(project)
    git(project, "checkout", "--quiet", "main")
    (project / "README.md").write_text("Read this.")
    commit(project)
    git(project, "checkout", "--quiet", "work")
    (project / "docs/page.md").write_text("Another page.")
    git(project, "add", "docs/page.md")
    (project / "Makefile").write_text("none:\n")
    (project / "new.py").touch()
    assert changed_files(project, "main") == ["Makefile", "agent/house/hall.py", "docs/page.md", "new.py"]
    assert changed_files(project, "no/such/branch") == ["Makefile", "docs/page.md", "new.py"]


def test_near_tests_run_first_and_a_failure_ends_it(
    project: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others follow only if the near ones pass; the status is pytest's."""
    monkeypatch.setenv(
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1"
    )  # they take a second to load, and do nothing here
    options = ["--since", "HEAD", "-q", "-p", "no:cacheprovider"]
    has_run = project / "tests/has_run"
    (project / "agent/house/cellar.py").write_text("WINE = 0\n")
    assert main(options, project) == 1
    assert (
        "1 files have changed. It reaches 2 of 3 test modules; the 1 nearest run first."
        in capfd.readouterr().out
    )
    assert not has_run.exists()
    # Of another length: Python takes a file of the same length and second for the one that it compiled.
    (project / "agent/house/cellar.py").write_text("WINE = 20\n")
    assert main([*options, "--list"], project) == 0
    assert capfd.readouterr().out.splitlines()[1:] == ["tests/test_cellar.py", "tests/test_hall.py"]
    assert not has_run.exists()
    assert main([*options, "--near"], project) == 0
    assert not has_run.exists()
    assert main(options, project) == 0
    assert has_run.exists()
