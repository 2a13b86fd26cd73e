"""The pages under the arena: memory that is neither swapped, dumped, inherited nor read by others.

Two kinds, in the order in which ``auto`` tries them:

- ``memfd_secret``: pages that the kernel removes from its own direct map. No other process can read
  them, root included; they are in no core file and no hibernation image. The descriptor is closed once
  mapped, for whoever could copy it out of the process (``pidfd_getfd``) could map the same pages.
- ``mlock``: private anonymous pages under ``mlock2`` and ``MADV_DONTDUMP``. Root can read them.

What must hold:

- Both kinds are ``MADV_DONTFORK``: a forked child has no mapping there at all, which is also why
  ``MADV_WIPEONFORK`` (which secret memory refuses) is not needed.
- Without either kind there is no backing: ``LockedMemoryError`` names the limit and the remedy.
- The mapping lives exactly as long as the last memoryview on it, so that no stray view can ever reach
  memory that was given back.

It does not allocate within the pages (``arena``) and does not choose their size (``arena``, settings).
"""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from keyholt_agent.memory import syscalls

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Backend", "BackendChoice", "Backing", "LockedMemoryError", "memlock_limit", "open_backing"]

Backend = Literal["memfd_secret", "mlock"]
BackendChoice = Literal["auto", "memfd_secret", "mlock"]

PAGE: Final = mmap.PAGESIZE


class LockedMemoryError(Exception):
    """Locked memory cannot be had; the message names the limit in force and what to set it to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backing:
    """Whole pages of locked memory, all zero at first.

    Attributes:
        backend: the kind of memory.
        address: where it begins; page aligned.
        view: all of it, writable. Releasing every view on it unmaps the pages.
    """

    backend: Backend
    address: int
    view: memoryview


def memlock_limit() -> int | None:
    """The soft RLIMIT_MEMLOCK of this process in bytes; None where it is unlimited."""
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    return None if soft == resource.RLIM_INFINITY else soft


def open_backing(choice: BackendChoice, size: int) -> Backing:
    """Map and lock ``size`` bytes (rounded up to whole pages).

    Raises:
        LockedMemoryError: none of the allowed kinds can be had.
    """
    length = -(-size // PAGE) * PAGE
    failures: list[OSError] = []
    for backend, lock in _KINDS:
        if choice in ("auto", backend):
            try:
                return _open(backend, lock, length)
            except OSError as error:
                failures.append(error.with_traceback(None))  # which would keep the pages that were tried
    raise LockedMemoryError(_refusal(length, failures))


def _open(backend: Backend, lock: Callable[[int, int], None], length: int) -> Backing:
    # The mapping belongs to an object of the interpreter, which unmaps it when nothing refers to it any more.
    # A finalizer of our own could run too early: in a cycle, before the __del__ of a buffer that zeroes it.
    pages = mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    address = ctypes.addressof(ctypes.c_ubyte.from_buffer(pages))
    lock(address, length)
    pages.madvise(mmap.MADV_DONTFORK)
    pages.madvise(mmap.MADV_DONTDUMP)
    return Backing(backend=backend, address=address, view=memoryview(pages))


def _lock_secret(address: int, length: int) -> None:
    """Put secret memory in the place of the pages that are there."""
    fd = syscalls.memfd_secret()
    try:
        os.ftruncate(fd, length)
        syscalls.map_over(address, length, fd)
    finally:
        os.close(fd)


def _lock_in_place(address: int, length: int) -> None:
    syscalls.mlock2(address, length, syscalls.MLOCK_ONFAULT)


_KINDS: Final[tuple[tuple[Backend, Callable[[int, int], None]], ...]] = (
    ("memfd_secret", _lock_secret),
    ("mlock", _lock_in_place),
)


def _refusal(length: int, failures: list[OSError]) -> str:
    reasons = "; ".join(error.strerror or "no reason given" for error in failures)
    limit = memlock_limit()
    if limit is not None and limit < length:
        in_force = f"RLIMIT_MEMLOCK is {limit} bytes"
    else:
        in_force = f"RLIMIT_MEMLOCK is {'unlimited' if limit is None else f'{limit} bytes'}, which is enough"
    return (
        f"cannot lock {length} bytes of memory ({reasons}); {in_force}. Set it to at least {length} bytes: "
        f"`LimitMEMLOCK={length}` in the unit, or `ulimit -l {length // 1024}` before starting the agent"
    )
