"""The scanner itself: it finds what is there, wherever that is, and never passes for want of looking."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.support import memory_scan
from tests.support.memory_scan import ScanError, dump_core, scan_file, scan_process, scannable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Reads 64 bytes into memory of the kind that is named, says so, and waits to be ended.
HOLDER = """
import mmap, os, sys
from keyholt_agent.hardening import harden
from keyholt_agent.memory import Arena, MemorySettings
harden()
kind = sys.argv[1]
if kind in ("memfd_secret", "mlock"):
    arena = Arena.open(MemorySettings(backend=kind, size=1 << 20))
    buffer = arena.allocate(64)
    os.readv(0, [buffer.view])
elif kind == "heap":
    held = [os.read(0, 64)]
elif kind == "freed":
    os.read(0, 64)
elif kind == "page-seam":
    pages = mmap.mmap(-1, 1 << 22)
    os.readv(0, [memoryview(pages)[(1 << 21) - 20:(1 << 21) + 44]])
elif kind == "tail":
    held = os.read(0, 64)[40:]
os.write(1, b"ready")
os.read(0, 1)
os._exit(0)
"""


@contextmanager
def holder(kind: str, secret: bytes) -> Iterator[int]:
    """The pid of a hardened process that holds 64 bytes in one kind of memory."""
    with subprocess.Popen(
        scannable([sys.executable, "-c", HOLDER, kind]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(secret)
        process.stdin.flush()
        assert process.stdout.read(5) == b"ready"
        yield process.pid


@pytest.fixture
def secret() -> bytes:
    """64 bytes that are nowhere else."""
    return os.urandom(64)


@pytest.mark.parametrize("kind", ["heap", "freed", "page-seam", "tail"])
def test_planted_secret_is_found(kind: str, secret: bytes, tmp_path: Path) -> None:
    """In use, freed, across a seam of the chunks, and in part: in the process and in its core."""
    other = os.urandom(64)
    with holder(kind, secret) as pid:
        scan = scan_process(pid, [other, secret])
        core = scan_file(dump_core(pid, tmp_path), [other, secret])
    assert scan.copies[secret] >= 1
    assert core.copies[secret] >= 1
    assert scan.copies[other] == core.copies[other] == 0
    assert scan.places[secret][0].startswith("0x")
    assert scan.bytes_read > memory_scan.LEAST_READ


def test_secret_memory_is_invisible(secret: bytes, tmp_path: Path) -> None:
    """While it holds the secret, neither root nor a core sees it; that it refused to be read is reported."""
    with holder("memfd_secret", secret) as pid:
        scan = scan_process(pid, [secret])
        core = scan_file(dump_core(pid, tmp_path), [secret])
    assert scan.total == core.total == 0
    assert any("secretmem" in name for name in scan.unreadable)


def test_locked_memory_is_seen_by_root_and_left_out_of_cores(secret: bytes, tmp_path: Path) -> None:
    """The fallback keeps keys from swap and cores, not from root: once in the arena, nowhere else."""
    with holder("mlock", secret) as pid:
        scan = scan_process(pid, [secret])
        core = scan_file(dump_core(pid, tmp_path), [secret])
    assert scan.copies[secret] == 1
    assert core.total == 0


def test_own_process_is_refused(secret: bytes) -> None:
    """A scan from inside would find its own needle."""
    with pytest.raises(ScanError, match="its own needles"):
        scan_process(os.getpid(), [secret])


def test_scan_that_read_nothing_is_refused(secret: bytes, tmp_path: Path) -> None:
    """A process that has ended, a core that is cut short: no answer is better than "0 copies"."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises((ScanError, OSError)):
        scan_process(process.pid, [secret])
    process.wait()
    short = tmp_path / "core"
    short.write_bytes(b"\x7fELF" + bytes(100))
    with pytest.raises(ScanError, match="only 104 bytes"):
        scan_file(short, [secret])
    with pytest.raises(ScanError, match="gcore wrote no core"):
        dump_core(process.pid, tmp_path)


@pytest.mark.parametrize("needles", [[], [b"short"], [bytes(32)]])
def test_needles_that_prove_nothing_are_refused(needles: list[bytes], tmp_path: Path) -> None:
    """None at all, or so short that it is found by chance."""
    with pytest.raises(ScanError, match="at least 8 bytes"):
        scan_file(tmp_path, needles)


@pytest.mark.parametrize("size", [memory_scan.CHUNK - 70, memory_scan.CHUNK - 10, 2 * memory_scan.CHUNK + 5])
def test_file_is_searched_across_chunks(size: int, secret: bytes, tmp_path: Path) -> None:
    """Each copy counts once, in a file larger than a chunk, at a seam, at either end."""
    path = tmp_path / "file"
    path.write_bytes(secret + bytes(size) + secret + b"x" + secret[-16:])
    assert scan_file(path, [secret]).copies == {secret: 3}


def test_command_takes_needles_from_stdin(secret: bytes, tmp_path: Path) -> None:
    """As a program: needles in hex on stdin, exit status 1 where one was found."""
    path = tmp_path / "file"
    path.write_bytes(secret)
    for needle, status in ((secret, 1), (os.urandom(64), 0)):
        outcome = subprocess.run(
            [sys.executable, memory_scan.__file__, "file", path],
            input=needle.hex(),
            text=True,
            capture_output=True,
            check=False,
        )
        assert outcome.returncode == status, outcome.stderr
        assert f'"copies": [{status}]' in outcome.stdout
