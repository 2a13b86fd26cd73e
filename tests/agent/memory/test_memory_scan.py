"""The scanner itself: it finds what is there, wherever that is, and never passes for want of looking."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import memory_scan, registers
from tests.support.code_paths import CODE_PATHS, CodePath
from tests.support.key_traces import round_keys
from tests.support.memory_scan import (
    ScanError,
    dump_core,
    scan_core,
    scan_file,
    scan_process,
    scan_registers,
    scannable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(memory_scan.__file__).parents[2]

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
elif kind == "middle":
    held = os.read(0, 64)[21:36]
elif kind == "sealed":
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    buffer, target = bytearray(64), bytearray(1024)
    os.readv(0, [buffer])
    key, value = memoryview(buffer)[:32], buffer[32:] * 32
    os.write(1, b"ready")
    AESGCM(key).encrypt(bytes(12), value, None)
    target[:] = value
    os.read(0, 1)
    os._exit(0)
os.write(1, b"ready")
os.read(0, 1)
os._exit(0)
"""


@contextmanager
def holder(kind: str, secret: bytes, path: CodePath = CODE_PATHS[0]) -> Iterator[int]:
    """The pid of a hardened process that holds 64 bytes in one kind of memory."""
    with subprocess.Popen(
        scannable([sys.executable, "-c", HOLDER, kind]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": os.pathsep.join(sys.path), **path.variables},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(secret)
        process.stdin.flush()
        assert process.stdout.read(5) == b"ready"
        registers.wait_blocked(process.pid)
        yield process.pid


@pytest.fixture
def secret() -> bytes:
    """64 bytes that are nowhere else."""
    return os.urandom(64)


@pytest.mark.parametrize("kind", ["heap", "freed", "page-seam", "tail", "middle"])
def test_planted_secret_is_found(kind: str, secret: bytes, tmp_path: Path) -> None:
    """In use, freed, across a seam of pages, and in part: in the process and in its core."""
    other = os.urandom(64)
    with holder(kind, secret) as pid:
        scan = scan_process(pid, [other, secret])
        core = scan_core(dump_core(pid, tmp_path), [other, secret])
    assert scan.copies[secret] >= 1
    assert core.copies[secret] >= 1
    assert scan.copies[other] == core.copies[other] == 0
    assert scan.places[secret][0].startswith("0x")
    assert scan.bytes_read > memory_scan.LEAST_READ


def test_secret_memory_is_invisible(secret: bytes, tmp_path: Path) -> None:
    """While it holds the secret, neither root nor a core sees it; that it refused to be read is reported."""
    with holder("memfd_secret", secret) as pid:
        scan = scan_process(pid, [secret])
        core = scan_core(dump_core(pid, tmp_path), [secret])
    assert scan.total == core.total == 0
    assert any("secretmem" in name for name in scan.unreadable)


def test_locked_memory_is_seen_by_root_and_left_out_of_cores(secret: bytes, tmp_path: Path) -> None:
    """The fallback keeps keys from swap and cores, not from root: once in the arena, nowhere else."""
    with holder("mlock", secret) as pid:
        scan = scan_process(pid, [secret])
        core = scan_core(dump_core(pid, tmp_path), [secret])
    assert scan.copies[secret] == 1
    assert core.total == 0


def test_vector_registers_are_searched(tmp_path: Path) -> None:
    """All of them in the thread, and what is in the notes of its core; in memory there is nothing of it."""
    block = os.urandom(16)
    with holder("heap", os.urandom(64)) as pid:
        with registers.stopped(pid):
            filled = registers.fill(pid, block, 32)
            assert registers.holding(registers.read_vector(pid), block) == filled
        scan = scan_registers(pid, [block])
        core = scan_core(dump_core(pid, tmp_path), [block])
        assert scan_process(pid, [block]).total == 0
    assert filled in (set(range(16)), set(range(32)))
    assert scan.copies[block] >= len(filled)
    assert core.copies[block] >= len(filled)  # in two kinds of note, and not all of it in gdb before 14
    assert all("note" in place for place in core.places[block])


@pytest.mark.parametrize("path", CODE_PATHS, ids=str)
def test_what_sealing_and_copying_leave_is_found(path: CodePath, secret: bytes) -> None:
    """A process that seals and copies a value and then waits has some of it in registers, on each path."""
    with holder("sealed", secret, path) as pid:
        scan = scan_registers(pid, [round_keys(secret[:32]), secret[32:]])
    assert scan.total > 0


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
    with pytest.raises((ScanError, OSError)):
        scan_registers(process.pid, [secret])
    process.wait()
    short = tmp_path / "core"
    for content in (b"", b"\x7fELF" + bytes(100), b"no core" * 20):
        short.write_bytes(content)
        with pytest.raises(ScanError, match="core file"):
            scan_core(short, [secret])
    with pytest.raises(ScanError, match="gcore wrote no core"):
        dump_core(process.pid, tmp_path)


@pytest.mark.parametrize(
    "needles, complaint", [([], "nothing"), ([b"14 bytes only."], "15 bytes"), ([bytes(32)], "say something")]
)
def test_needles_that_prove_nothing_are_refused(needles: list[bytes], complaint: str, tmp_path: Path) -> None:
    """None at all, too short to fill a word wherever it lies, or found everywhere."""
    with pytest.raises(ScanError, match=complaint):
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
            [sys.executable, "-m", "tests.support.memory_scan", "file", path],
            cwd=ROOT,
            input=needle.hex(),
            text=True,
            capture_output=True,
            check=False,
        )
        assert outcome.returncode == status, outcome.stderr
        assert f'"copies": [{status}]' in outcome.stdout
