"""The registers of another process's threads: read, and filled with what is to be found, through ptrace(2).

- A thread is stopped for as long as it takes. What it was waiting for goes on as if nothing had happened.
- x86-64 only, with or without AVX and AVX-512.

The vector registers come as the XSAVE instruction lays them out (Intel SDM, volume 1, chapter 13):

=======  ======  ==============================================================================
offset   bytes   what
=======  ======  ==============================================================================
160      256     bits 0 to 127 of registers 0 to 15
512      8       which parts are there; the others are in their initial state
576      256     bits 128 to 255 of registers 0 to 15
896      512     bits 256 to 511 of registers 0 to 15, on AMD; 1152 on Intel
1408     1024    registers 16 to 31, on AMD; 1664 on Intel
=======  ======  ==============================================================================
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.support.agent_process import poll

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "LEAST",
    "fill",
    "holding",
    "read_all",
    "read_stopped",
    "read_vector",
    "stack_pointer",
    "stopped",
    "stopped_at_exit",
    "wait_blocked",
]

LEAST: Final = 832
"""Bytes. The general registers and 16 vector registers of one thread have more."""

_SEIZE: Final = 0x4206
_INTERRUPT: Final = 0x4207
_CONTINUE: Final = 7
_DETACH: Final = 17
_GET_REGISTERS: Final = 0x4204
_SET_REGISTERS: Final = 0x4205
_GENERAL: Final = 1
_VECTOR: Final = 0x202
_TRACE_EXIT: Final = 0x40
_EXIT: Final = 5 | 6 << 8
"""PTRACE_O_TRACEEXIT, and how such a stop is told: SIGTRAP and PTRACE_EVENT_EXIT (ptrace(2))."""

_WAIT_ALL: Final = 0x40000000
"""__WALL: threads are waited for like children (wait(2))."""

_FOR_INPUT: Final = {"0", "232"}
_FOR_A_THREAD: Final = {"202"}
"""read and epoll_wait, and futex, by their numbers. In a futex a thread waits for the interpreter, too."""

_STACK_POINTER: Final = 19
"""Its place in ``struct user_regs_struct`` (sys/user.h)."""

_PARTS: Final = 512
_LOW: Final = 160
_HIGH: Final = 576
_AVX_512_ON_AMD: Final = (896, 1408)
_AVX_512_ON_INTEL: Final = (1152, 1664)
_ALL_PARTS: Final = 0b11100110
_WITHOUT_AVX_512: Final = 0b110
"""Bits of the parts: 1 and 2 are the first two of the table, 6 and 7 the others."""

_ptrace: Final = ctypes.CDLL(None, use_errno=True).ptrace
_ptrace.restype = ctypes.c_long
_ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)


class _Span(ctypes.Structure):
    _fields_ = (("start", ctypes.c_void_p), ("size", ctypes.c_size_t))


@contextmanager
def stopped(tid: int) -> Iterator[None]:
    """Keep a thread stopped, wherever it is, for the length of a ``with``."""
    _call(_SEIZE, tid)
    try:
        _call(_INTERRUPT, tid)
        _, status = os.waitpid(tid, _WAIT_ALL)
        if not os.WIFSTOPPED(status):
            raise ProcessLookupError(f"thread {tid} has ended")
        yield
    finally:
        _call(_DETACH, tid)


@contextmanager
def stopped_at_exit(pid: int) -> Iterator[None]:
    """Let a process that stopped itself go on to its very end, and keep it there while in a ``with``:
    all that it does is done then, and memory and registers are still there.
    """
    _call(_SEIZE, pid, data=_TRACE_EXIT)
    os.kill(pid, signal.SIGCONT)
    while True:
        _, status = os.waitpid(pid, _WAIT_ALL)
        if not os.WIFSTOPPED(status):
            raise ProcessLookupError(f"process {pid} has ended")
        if status >> 8 == _EXIT:
            break
        _call(_CONTINUE, pid)
    try:
        yield
    finally:
        _call(_DETACH, pid)


def read_all(pid: int) -> dict[str, bytes]:
    """All registers of all threads of a process, by the thread and the kind."""
    found: dict[str, bytes] = {}
    for tid in sorted(map(int, os.listdir(f"/proc/{pid}/task"))):
        with stopped(tid):
            found |= read_stopped(tid)
    return found


def read_stopped(tid: int) -> dict[str, bytes]:
    """All registers of a stopped thread, by the thread and the kind."""
    name = Path(f"/proc/{tid}/comm").read_text(encoding="utf-8").strip()
    return {
        f"general registers of thread {tid}, {name}": _read(tid, _GENERAL),
        f"vector registers of thread {tid}, {name}": _read(tid, _VECTOR),
    }


def stack_pointer(tid: int) -> int:
    """Of a stopped thread."""
    return int(struct.unpack_from("<Q", _read(tid, _GENERAL), 8 * _STACK_POINTER)[0])


def read_vector(tid: int) -> bytes:
    """The vector registers of a stopped thread, as they are laid out above."""
    return _read(tid, _VECTOR)


def wait_blocked(tid: int, *, for_thread: bool = False) -> None:
    """Wait until a thread waits for input or events, or for another thread."""
    calls = _FOR_A_THREAD if for_thread else _FOR_INPUT
    poll(lambda: Path(f"/proc/{tid}/syscall").read_text(encoding="ascii").split()[0] in calls)


def fill(tid: int, pattern: bytes, count: int) -> set[int]:
    """Fill the first ``count`` vector registers of a stopped thread with 16 bytes, over and over.

    Up to 16 are taken for those of a processor without AVX-512, and filled no further than these reach. Gives
    the numbers of the registers that were filled.
    """
    content = bytearray(_read(tid, _VECTOR))
    spans = _spans(content)[: 4 if count > 16 else 2]
    struct.pack_into("<Q", content, _PARTS, _ALL_PARTS if len(spans) > 2 else _WITHOUT_AVX_512)
    for start, size, first in spans:
        filled = size * min(16, count - first)
        content[start : start + filled] = pattern * (filled // len(pattern))
    _write(tid, _VECTOR, bytes(content))
    return holding(content, pattern)


def holding(content: bytes | bytearray, pattern: bytes) -> set[int]:
    """The numbers of the registers that hold either half of the 16 bytes anywhere."""
    return {
        first + number
        for start, size, first in _spans(content)
        for number in range(16)
        for at in range(start + number * size, start + (number + 1) * size, 8)
        if content[at : at + 8] in (pattern[:8], pattern[8:])
    }


def _spans(content: bytes | bytearray) -> list[tuple[int, int, int]]:
    """Where parts of 16 registers begin, the size of each, and the number of the first, as in the table."""
    spans = [(_LOW, 16, 0), (_HIGH, 16, 0)]
    for upper, more in (_AVX_512_ON_INTEL, _AVX_512_ON_AMD):
        if len(content) >= more + 16 * 64:
            return [*spans, (upper, 32, 0), (more, 64, 16)]
    return spans


def _read(tid: int, kind: int) -> bytes:
    buffer = ctypes.create_string_buffer(64 * 1024)
    span = _Span(ctypes.addressof(buffer), len(buffer))
    _call(_GET_REGISTERS, tid, kind, ctypes.addressof(span))
    return buffer.raw[: span.size]


def _write(tid: int, kind: int, content: bytes) -> None:
    buffer = ctypes.create_string_buffer(content, len(content))
    span = _Span(ctypes.addressof(buffer), len(content))
    _call(_SET_REGISTERS, tid, kind, ctypes.addressof(span))


def _call(request: int, tid: int, address: int = 0, data: int = 0) -> None:
    if _ptrace(request, tid, address, data) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"ptrace: {os.strerror(number)}")
