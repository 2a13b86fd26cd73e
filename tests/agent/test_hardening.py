"""The hardened process, seen from inside and from another process of the same user."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from keyholt_agent import hardening
from keyholt_agent.hardening import Hardening, HardeningError
from tests.support.users import need_other_uids

if TYPE_CHECKING:
    from pathlib import Path

HARDENED = Hardening(core_limit=(0, 0), dumpable=False, umask=0o077)


def run(program: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """A program in an interpreter of its own: hardening cannot be undone."""
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=check,
        timeout=60,
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_process_is_hardened() -> None:
    """All three settings are in force afterwards, and were not before; harden twice is harmless."""
    program = (
        "import os; os.umask(0o022)\n"
        "from keyholt_agent.hardening import examine, harden\n"
        "before = examine(); harden(); harden(); print(before.dumpable, before.umask); print(examine())"
    )
    assert run(program).stdout.splitlines() == ["True 18", repr(HARDENED)]


def test_core_limit_cannot_be_raised_again() -> None:
    """The hard limit is 0 too."""
    program = (
        "import resource\n"
        "from keyholt_agent.hardening import harden\n"
        "harden()\n"
        "print(resource.getrlimit(resource.RLIMIT_CORE))"
    )
    assert run(program).stdout.strip() == "(0, 0)"


@pytest.mark.parametrize("hardened", [True, False])
def test_crash_leaves_no_core(tmp_path: Path, hardened: bool) -> None:
    """SIGSEGV: without hardening the kernel says that it dumped core, with it it does not."""
    program = (
        "import os, resource, signal, sys\n"
        "from keyholt_agent.hardening import harden\n"
        "os.chdir(sys.argv[1])\n"
        "hard = resource.getrlimit(resource.RLIMIT_CORE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))\n"
        "if sys.argv[2] == 'True': harden()\n"
        "os.kill(os.getpid(), signal.SIGSEGV)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path), str(hardened)],
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    _, status = os.waitpid(child.pid, 0)
    child.returncode = -os.WTERMSIG(status)
    assert os.WIFSIGNALED(status)
    assert os.WCOREDUMP(status) is not hardened


@pytest.mark.parametrize("hardened", [True, False])
def test_same_user_cannot_read_the_memory(hardened: bool) -> None:
    """A process of the same user, without privilege, gets EACCES; without hardening it reads.

    It runs as an unprivileged uid, so that it means the same when the tests are run by root.
    """
    if os.geteuid() == 0:
        need_other_uids()
    program = (
        "import os, sys\n"
        "from keyholt_agent.hardening import harden\n"
        "if os.geteuid() == 0: os.setgroups([]); os.setresgid(*[65534] * 3); os.setresuid(*[65534] * 3)\n"
        "parent, ready = os.getpid(), os.pipe()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os.close(ready[1])\n"
        "    if os.read(ready[0], 1) != b'x': os._exit(2)\n"
        "    try: os.open(f'/proc/{parent}/mem', os.O_RDONLY)\n"
        "    except PermissionError: os._exit(1)\n"
        "    os._exit(0)\n"
        "from keyholt_agent.memory.syscalls import prctl\n"
        "prctl(4, 1)  # PR_SET_DUMPABLE, which changing the uid has cleared.\n"
        "if os.path.exists('/proc/sys/kernel/yama'): prctl(0x59616d61, 2**64 - 1)  # PR_SET_PTRACER, any.\n"
        "if sys.argv[1] == 'True': harden()\n"
        "os.write(ready[1], b'x')\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))"
    )
    assert run(program, str(hardened)).stdout.strip() == ("1" if hardened else "0")


@pytest.mark.parametrize(
    "state, complaint",
    [
        (Hardening(core_limit=(0, 1), dumpable=False, umask=0o077), "RLIMIT_CORE"),
        (Hardening(core_limit=(0, 0), dumpable=True, umask=0o077), "PR_SET_DUMPABLE"),
        (Hardening(core_limit=(0, 0), dumpable=False, umask=0o027), "umask is 0027"),
    ],
)
def test_setting_that_did_not_take_is_refused(state: Hardening, complaint: str) -> None:
    """Each by its name."""
    with pytest.raises(HardeningError, match=complaint):
        hardening._require(state)
