"""The pages: what the kernel says of them, and what happens where they cannot be had."""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import mmap
import os
import re
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from keyholt_agent.memory import Arena, Backend, LockedMemoryError, syscalls
from keyholt_agent.memory.backing import PAGE, open_backing

SIZE = 8 * PAGE

# Run in a process of its own: it lowers its limit and gives up what lets root exceed it. Everything is
# imported first, since another uid may not be able to read the interpreter's files.
TOO_LOW = """
import os, resource, sys
from keyholt_agent.memory import Arena, LockedMemoryError, MemorySettings
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_MEMLOCK, (limit, limit))
try:
    os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
except OSError:
    pass  # an ordinary user, or one in a namespace of one uid: without the privilege already
size = int(sys.argv[3]) or None
try:
    arena = Arena.open(MemorySettings(backend=sys.argv[2], size=size))
except LockedMemoryError as error:
    print("refused:", error)
else:
    print("opened:", arena.usage.backend, arena.usage.size)
"""


REFUSED = (
    TOO_LOW.partition("size = ")[0]
    + """
import ctypes, mmap
from keyholt_agent.memory import syscalls
size = int(sys.argv[3])
pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
address = ctypes.addressof(ctypes.c_ubyte.from_buffer(pages))
fd = syscalls.memfd_secret()
os.ftruncate(fd, size)
try:
    syscalls.map_over(address, size, fd)
except OSError:
    with open("/proc/self/maps") as maps:
        runs = [[int(end, 16) for end in line.split()[0].split("-")] for line in maps]
    covered = sum(max(0, min(stop, address + size) - max(start, address)) for start, stop in runs)
    print("refused, and", "all" if covered == size else "not all", "of the pages are still mapped")
"""
)


def under_limit(limit: int, backend: str, size: int = 0, script: str = TOO_LOW) -> str:
    """What opening an arena says in a process with a lower RLIMIT_MEMLOCK and without privilege."""
    outcome = subprocess.run(
        [sys.executable, "-c", script, str(limit), backend, str(size)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    return outcome.stdout.strip()


def flags_of(address: int) -> set[str]:
    """The kernel's flags of the mapping at an address (proc(5), VmFlags)."""
    smaps = Path("/proc/self/smaps").read_text(encoding="utf-8")
    mappings = re.findall(r"^([0-9a-f]+)-([0-9a-f]+) .*?^VmFlags: (.*?)$", smaps, re.MULTILINE | re.DOTALL)
    # The kernel joins neighbours that are alike: the mapping may begin before the address.
    (flags,) = (flags for start, end, flags in mappings if int(start, 16) <= address < int(end, 16))
    return set(flags.split())


def test_pages_are_locked_and_neither_dumped_nor_inherited(backend: Backend) -> None:
    """The kernel confirms for each kind: locked, not in a core, not copied to a child."""
    backing = open_backing(backend, SIZE)
    assert {"lo", "dd", "dc"} <= flags_of(backing.address)


def test_flags_are_missing_from_ordinary_memory() -> None:
    """The check above would notice: pages that nobody protected have none of these flags."""
    with mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as pages:
        address = ctypes.addressof(ctypes.c_ubyte.from_buffer(pages))
        assert not {"lo", "dd", "dc"} & flags_of(address)


def test_pages_are_zero_writable_and_whole(backend: Backend) -> None:
    """A size that is no whole number of pages is rounded up; every byte is zero and can be written."""
    backing = open_backing(backend, SIZE - 1)
    assert len(backing.view) == SIZE
    assert backing.view == bytes(SIZE)
    backing.view[:] = b"\xff" * SIZE
    assert backing.view == b"\xff" * SIZE


def test_no_descriptor_stays_open() -> None:
    """Whoever copied a descriptor of secret memory could map it, so none is kept."""
    before = os.listdir("/proc/self/fd")
    backing = open_backing("memfd_secret", SIZE)
    assert os.listdir("/proc/self/fd") == before
    assert len(backing.view) == SIZE


def test_pages_live_as_long_as_the_last_view_on_them(backend: Backend) -> None:
    """A view that was forgotten still reads; with it goes the mapping."""
    backing = open_backing(backend, SIZE)
    address = backing.address
    stray = backing.view[16:32]
    backing.view.release()
    del backing
    assert stray == bytes(16)
    assert flags_of(address)
    stray.release()
    assert f"{address:x}-" not in Path("/proc/self/maps").read_text(encoding="utf-8")


def test_forked_child_cannot_reach_the_pages(backend: Backend) -> None:
    """In a child the addresses are not mapped: reading there ends it."""
    backing = open_backing(backend, SIZE)
    child = os.fork()
    if child == 0:
        faulthandler.disable()
        bytes(backing.view[:1])  # This ends the child with SIGSEGV.
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGSEGV


def test_secret_memory_is_preferred() -> None:
    """``auto`` takes the kind that not even root can read."""
    assert open_backing("auto", SIZE).backend == "memfd_secret"


@pytest.mark.parametrize("refusal", [OSError(38, "memfd_secret: Function not implemented"), OSError(1, "no")])
def test_auto_falls_back_to_mlock(refusal: OSError, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel without secret memory, or a filter that forbids it, still gives locked memory.

    The refusal is put in place of the system call: a kernel that has the call cannot be made to lack it.
    """

    def refuse() -> int:
        raise refusal

    monkeypatch.setattr(syscalls, "memfd_secret", refuse)
    assert open_backing("auto", SIZE).backend == "mlock"
    with pytest.raises(LockedMemoryError):
        open_backing("memfd_secret", SIZE)


@pytest.mark.parametrize("choice", ["auto", "memfd_secret", "mlock"])
def test_too_low_a_limit_is_refused_with_the_remedy(choice: str) -> None:
    """The sentence names the limit in force, what to set it to and how."""
    said = under_limit(65536, choice)
    assert said.startswith("refused: cannot lock 1048576 bytes of memory")
    assert "RLIMIT_MEMLOCK is 65536 bytes" in said
    assert "`LimitMEMLOCK=1048576`" in said
    assert "`ulimit -l 1024`" in said


def test_size_that_was_set_and_does_not_fit_is_refused() -> None:
    """A configured size is not silently made smaller."""
    said = under_limit(2 * 1024 * 1024, "auto", 4 * 1024 * 1024)
    assert "cannot lock 4194304 bytes" in said
    assert "RLIMIT_MEMLOCK is 2097152 bytes" in said


def test_automatic_size_follows_the_limit() -> None:
    """What RLIMIT_MEMLOCK allows is taken but for a margin, by either kind."""
    assert under_limit(8 * 1024 * 1024, "auto") == f"opened: memfd_secret {8 * 1024 * 1024 - 65536}"
    assert under_limit(4 * 1024 * 1024, "mlock") == f"opened: mlock {4 * 1024 * 1024 - 65536}"


def test_pages_outlive_the_finalizers_of_a_cycle() -> None:
    """A slot that is collected in one cycle with its arena is still zeroed in pages that are there."""
    gc.collect()  # nothing of an earlier test may be collected in this one
    arena = Arena(open_backing("memfd_secret", SIZE))
    cycle: list[object] = [arena, arena.allocate(48)]
    cycle.append(cycle)
    del arena, cycle
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gc.collect()
    assert [warning.category for warning in caught] == [ResourceWarning]


def test_refused_pages_leave_no_hole() -> None:
    """Where secret memory is refused, its owner still has pages to unmap, so nothing else can lie there."""
    said = under_limit(1024 * 1024, "memfd_secret", 32 * 1024 * 1024, REFUSED)
    assert said == "refused, and all of the pages are still mapped"
