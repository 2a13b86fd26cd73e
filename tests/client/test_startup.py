"""What starting costs, counted in modules: those that measured slow are not loaded where they are not
needed.
"""

from __future__ import annotations

import subprocess
import sys

import keyholt
from tests.client.conftest import RunningAgent, environment
from tests.support.programs import KEYHOLT

HEAVY = {
    "argparse",
    "asyncio",
    "dataclasses",
    "enum",
    "inspect",
    "json",
    "msgpack",
    "re",
    "socket",
    "trio",
    "typing",
}


def loaded(code: str, *arguments: str, address: str = "") -> set[str]:
    """The modules that a program has loaded at its end."""
    report = "import sys, atexit; atexit.register(lambda: sys.stderr.write(' '.join(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", f"{report}\n{code}", *arguments],
        env={**environment(), "KEYHOLT_ADDRESS": address},
        capture_output=True,
        check=True,
        timeout=30,
    )
    return set(done.stderr.decode().split())


def loaded_by(*words: str, address: str = "") -> set[str]:
    """The modules that an interpreter imports which is started as the installed program starts it."""
    done = subprocess.run(
        [sys.executable, "-I", "-X", "importtime", *words],
        env={**environment(), "KEYHOLT_ADDRESS": address},
        capture_output=True,
        check=True,
        timeout=30,
    )
    return {line.rpartition("|")[2].strip() for line in done.stderr.decode().splitlines()}


def test_get_loads_next_to_nothing(agent: RunningAgent) -> None:
    """`keyholt get` loads none of the modules that cost milliseconds.

    The counter-check: `status` loads most of them.
    """
    with keyholt.connect(agent.address) as client:
        client.put("startup/a", "x")
    extra = loaded_by(KEYHOLT, "get", "startup/a", address=agent.address) - loaded_by("-c", "pass")
    assert not extra & HEAVY
    assert len(extra) <= 13, extra
    assert len(loaded_by(KEYHOLT, "status", address=agent.address) & HEAVY) > len(HEAVY) / 2


def test_importing_the_library_loads_no_other(agent: RunningAgent) -> None:
    """`import keyholt` loads itself alone; using it loads the standard library and msgpack, no trio."""
    assert {name for name in loaded("import keyholt") - loaded("pass") if not name.startswith("_")} == {
        "keyholt"
    }
    used = loaded("import keyholt; keyholt.connect().close()", address=agent.address) - loaded("pass")
    roots = {name.partition(".")[0] for name in used} - sys.stdlib_module_names
    ours = {"cython_runtime", "keyholt", "keyholt_protocol", "msgpack"}
    assert {name for name in roots - ours if not name.startswith(("_cython", "__editable"))} == set()
    assert "msgpack" in roots


def test_public_names_are_there() -> None:
    """Every name in ``__all__`` can be had and is listed; another is an attribute error."""
    for name in keyholt.__all__:
        if name != "__version__":
            assert getattr(keyholt, name) is not None
    assert {"Client", "NotFoundError", "SecretInfo", "asyncio", "trio"} <= set(keyholt.__all__)
    assert set(keyholt.__all__) <= set(dir(keyholt))
    assert not hasattr(keyholt, "nothing")
