"""Other users: which tests can be them, and why not where they cannot."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

__all__ = ["NOBODY", "need_other_uids", "need_readable_interpreter", "without_privileges"]

NOBODY: Final = 65534


def without_privileges() -> list[str]:
    """In front of a command: no capability lifts limits and permissions then, whoever runs the tests."""
    return ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--"] if os.geteuid() == 0 else []


def need_other_uids() -> None:
    """Skip, with its reason, where this process cannot become another user.

    ``make test`` of an ordinary user runs in a user namespace that has one uid only.
    """
    single = Path("/proc/self/uid_map").read_text("ascii").split()[2] == "1"
    if os.geteuid() != 0 or single:
        pytest.skip("needs a second uid, which only root has: run the tests as root for this one")


def need_readable_interpreter() -> None:
    """Skip, with its reason, where another user could not run this interpreter."""
    if not _interpreter_is_readable():
        pytest.skip("another user cannot read this interpreter or checkout: use a path that all may enter")


@functools.cache
def _interpreter_is_readable() -> bool:
    probe = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", sys.executable]
    imported = "import keyholt_agent.main"
    return subprocess.run([*probe, "-c", imported], capture_output=True, check=False).returncode == 0
