"""The start of the daemon: hardened before anything is imported, and clear about what is missing."""

from __future__ import annotations

import subprocess
import sys

HARDENED_FIRST = """
import sys
from keyholt_agent import start
heavy = {"trio", "sqlalchemy", "cryptography"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
def harden():
    print("hardened with", sorted(heavy & set(sys.modules)))
start.harden = harden
sys.argv = ["keyholt-agent", "--version"]
start.main()
"""

COLLECTS_LATER = """
import gc
from keyholt_agent import main, start
main.main = lambda: print(gc.isenabled(), gc.get_freeze_count() > 1000)
start.main()
"""

LOADED = """
import sys
sys.argv = ["keyholt-agent", "--version"]
from keyholt_agent import start
try:
    start.main()
finally:
    print(*sorted({"sqlalchemy", "alembic", "asyncio", "tomllib", "difflib"} & set(sys.modules)))
"""

WITHOUT_TRIO = """
import sys
sys.modules["trio"] = None
from keyholt_agent import start
sys.exit(start.main())
"""


def run(script: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a fresh interpreter, isolated unless there are other options."""
    options = options or ("-I",)
    return subprocess.run(
        [sys.executable, *options, "-c", script], capture_output=True, text=True, check=False
    )


def test_hardening_comes_before_the_imports() -> None:
    """None of the large packages is loaded when the process is hardened, nor needed for it."""
    done = run(HARDENED_FIRST)
    assert done.stdout.startswith("hardened with []\nkeyholt-agent "), done.stderr


def test_collecting_garbage_begins_with_the_run() -> None:
    """While packages are loaded there is none; from then on it is collected, among what is new."""
    assert run(COLLECTS_LATER).stdout.split() == ["True", "True"]


def test_what_a_start_does_not_need_is_not_loaded() -> None:
    """Each costs the start milliseconds and the agent memory; one that is loaded (the control) shows."""
    assert run(LOADED).stdout.splitlines()[1:] == [""]
    assert run("import difflib" + LOADED).stdout.splitlines()[1:] == ["difflib"]


def test_missing_package_is_named() -> None:
    """A library installed without the agent's packages says how to get them, in one sentence."""
    done = run(WITHOUT_TRIO)
    assert done.returncode == 1
    assert done.stderr.startswith("keyholt-agent: the package 'trio")
    assert "extra 'agent'" in done.stderr
    assert done.stderr.count("\n") == 1


def test_start_that_is_not_isolated_is_refused() -> None:
    """Variables and the working directory would have said what is imported: said, with what to do."""
    done = run("import sys; from keyholt_agent import start; sys.exit(start.main())", "-s")
    assert done.returncode == 2
    assert "started as `keyholt-agent`, or with `python -I -m keyholt_agent`" in done.stderr
    assert done.stderr.count("\n") == 1
