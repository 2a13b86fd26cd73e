"""The command line's process, seen from another one of the same user, and the program that `run` starts."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.client.conftest import RunningAgent, environment
from tests.support.agent_process import poll
from tests.support.programs import KEYHOLT

WITHOUT_PRIVILEGES = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--"] if os.geteuid() == 0 else []
"""In front of a command: no capability lets it look into other processes then, whoever runs the tests."""

HARD = resource.getrlimit(resource.RLIMIT_CORE)[1]
CORES = HARD == resource.RLIM_INFINITY or HARD >= 8192
"""Whether a limit on core files other than none can be set here."""

LOOK = """
import ctypes, os, sys
pid = int(sys.argv[1])
def memory():
    os.close(os.open(f"/proc/{pid}/mem", os.O_RDONLY))
def variables():
    os.close(os.open(f"/proc/{pid}/environ", os.O_RDONLY))
def attach():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(16, pid, None, None) != 0:
        raise OSError(ctypes.get_errno(), "ptrace")
    os.waitpid(pid, 0)
    libc.ptrace(17, pid, None, None)
for look in (memory, variables, attach):
    try: look()
    except PermissionError: print(look.__name__, "refused")
    else: print(look.__name__, "done")
"""

OPEN = """
import ctypes, os, time
ctypes.CDLL(None).prctl(0x59616d61, ctypes.c_ulong(-1), 0, 0, 0)  # PR_SET_PTRACER, any: where Yama runs
os.write(1, b"x")
os.read(0, 1)
"""


@contextmanager
def waiting(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command that waits for its standard input."""
    cores = ["prlimit", "--core=4096:8192"] if CORES else []
    with subprocess.Popen(
        [*cores, *WITHOUT_PRIVILEGES, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def looked_at(pid: int) -> list[str]:
    """What another process of the same user can do to one."""
    look = [*WITHOUT_PRIVILEGES, sys.executable, "-c", LOOK, str(pid)]
    return subprocess.run(look, capture_output=True, text=True, timeout=30, check=True).stdout.splitlines()


def reads_its_input(pid: int) -> bool:
    """Whether a process waits in readv(2) of its descriptor 0."""
    call = Path(f"/proc/{pid}/syscall").read_text().split()
    return call[:2] in (["19", "0x0"], ["65", "0x0"])  # of x86-64, and of processors that came later


def test_nobody_looks_into_a_command_that_waits(agent: RunningAgent) -> None:
    """Neither memory nor environment, nor with a debugger, while it waits for a passphrase."""
    with waiting(KEYHOLT, "--address", agent.address, "unlock", "--passphrase-fd", "0") as process:
        poll(lambda: reads_its_input(process.pid))
        assert looked_at(process.pid) == ["memory refused", "variables refused", "attach refused"]
        limits = Path(f"/proc/{process.pid}/limits").read_text()
        (core,) = [line.split() for line in limits.splitlines() if line.startswith("Max core file size")]
        assert core[4:6] == (["0", "8192"] if CORES else ["0", str(HARD)])


def test_others_can_be_looked_into() -> None:
    """The control: a program that does nothing about it."""
    with waiting(sys.executable, "-c", OPEN) as process:
        assert process.stdout is not None
        assert process.stdout.read(1) == b"x"
        assert looked_at(process.pid) == ["memory done", "variables done", "attach done"]


@pytest.mark.parametrize("options", [(), ("--timeout", "60")], ids=["fast path", "full path"])
def test_a_command_that_run_starts_has_its_limits_back(agent: RunningAgent, options: tuple[str, ...]) -> None:
    """Soft and hard, as they were before, and it can be looked into again."""
    if not CORES:
        pytest.skip("core files are limited here, so that no limit can be set to see it come back")
    agent.cli("put", "limits/a", stdin=b"x")
    code = (
        "import ctypes, resource; "
        "print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    )
    for soft, most in ((4096, 8192), (0, 8192), (0, 0)):
        done = subprocess.run(
            ["prlimit", f"--core={soft}:{most}", KEYHOLT, *options, "run", "--", sys.executable, "-c", code],
            env={**environment(), "KEYHOLT_ADDRESS": agent.address, "A": "keyholt://limits/a"},
            capture_output=True, text=True, timeout=30, check=True,
        )  # fmt: skip
        assert done.stdout == f"({soft}, {most}) 1\n"


HARDENED = """
import resource, sys
from keyholt.cli import hardening
before = resource.getrlimit(resource.RLIMIT_CORE)
if sys.argv[1:]:
    import _ctypes
    del _ctypes.call_function
hardening.harden()
hardening.harden()
print(resource.getrlimit(resource.RLIMIT_CORE) == (0, before[1]), "ctypes" in sys.modules)
import ctypes
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
hardening.restore_core_limits()
hardening.restore_core_limits()
print(resource.getrlimit(resource.RLIMIT_CORE) == before)
"""


@pytest.mark.parametrize("long_way", [False, True])
def test_hardening_and_back(long_way: bool) -> None:
    """Twice is once, and the limits come back; without the short way to the kernel there is a longer one."""
    done = subprocess.run(
        [sys.executable, "-c", HARDENED, *(["x"] if long_way else [])],
        env=environment(), capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["True", str(long_way), "0", "True"]


def test_a_kernel_that_refuses(agent: RunningAgent) -> None:
    """What cannot be closed is not used: said in one sentence, and nothing is asked of the agent."""
    refuse = (
        "import sys; from keyholt.cli import entry, hardening\n"
        "hardening._prctl = lambda *_: -1\n"
        "sys.argv[1:] = ['get', 'limits/a']\n"
        "entry.program()"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", refuse],
        env={"KEYHOLT_ADDRESS": agent.address}, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("keyholt: the memory cannot be closed to other processes")


@pytest.mark.parametrize("file", ["/dev/stdin", "/proc/self/fd/0"])
def test_its_own_descriptors_stay_in_reach(agent: RunningAgent, file: str, tmp_path: Path) -> None:
    """A process that is closed to others still opens its own descriptors by their names."""
    given = tmp_path / "value"
    given.write_bytes(b"by name")
    words = [*WITHOUT_PRIVILEGES, KEYHOLT, "--address", agent.address, "put", "limits/named", "--file", file]
    with given.open("rb") as stdin:
        subprocess.run(words, stdin=stdin, env=environment(), timeout=30, check=True, capture_output=True)
    assert agent.cli("get", "limits/named").out == b"by name"
