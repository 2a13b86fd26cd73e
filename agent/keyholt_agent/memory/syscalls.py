"""The system calls that locked memory and hardening need and the standard library does not offer.

- Every call is typed here once and turns a failure into ``OSError`` with its errno.
- Addresses and lengths are checked by the callers; nothing here touches memory by itself.
- It knows nothing of arenas, limits or keys.
"""

from __future__ import annotations

import ctypes
import errno
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "MLOCK_ONFAULT",
    "fill_random",
    "map_over",
    "memfd_secret",
    "mlock2",
    "prctl",
]

MLOCK_ONFAULT: Final = 1
"""Lock each page when it is first touched, so that an idle arena costs no resident memory."""

_SYS_MEMFD_SECRET: Final = 447
"""The same number on x86_64 and aarch64 (``include/uapi/asm-generic/unistd.h``)."""

_PROT_READ_WRITE: Final = 1 | 2
_PROT_NONE: Final = 0
_MAP_SHARED_FIXED: Final = 0x01 | 0x10
_MAP_ANONYMOUS_FIXED: Final = 0x02 | 0x20 | 0x10
"""MAP_PRIVATE, MAP_ANONYMOUS and MAP_FIXED."""

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_LIBC_HELD: Final = ctypes.PyDLL(None, use_errno=True)
"""The same library, called without letting go of the interpreter's lock: for calls that take no longer than
taking it back would, with another thread at work."""


def _function(name: str, result: type, *arguments: type, library: ctypes.CDLL = _LIBC) -> Callable[..., int]:
    function = getattr(library, name)
    function.restype = result
    function.argtypes = arguments
    typed: Callable[..., int] = function
    return typed


_syscall = _function("syscall", ctypes.c_long, ctypes.c_long, ctypes.c_ulong)
_mmap = _function(
    "mmap",
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
)
_mlock2 = _function("mlock2", ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint)
_getrandom = _function(
    "getrandom", ctypes.c_ssize_t, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint, library=_LIBC_HELD
)
_prctl = _function("prctl", ctypes.c_int, ctypes.c_int, *[ctypes.c_ulong] * 4)


def _failure(call: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{call}: {os.strerror(number)}")


def memfd_secret() -> int:
    """A new file descriptor of secret memory, close-on-exec; the caller closes it (memfd_secret(2))."""
    fd = _syscall(_SYS_MEMFD_SECRET, os.O_CLOEXEC)
    if fd < 0:
        raise _failure("memfd_secret")
    return fd


def map_over(address: int, length: int, fd: int) -> None:
    """Put ``fd``, shared and writable, in the place of a mapping of this process (mmap(2), MAP_FIXED).

    Whoever owned the mapping owns this one; ``fd`` may be closed after. Where it fails, empty pages that
    cannot be read are left.
    """
    if _mmap(address, length, _PROT_READ_WRITE, _MAP_SHARED_FIXED, fd, 0) == address:
        return
    failure = _failure("mmap")
    # The kernel has taken the old pages away before it refused the new ones (RLIMIT_MEMLOCK is looked at
    # last). Their owner will unmap the address some day, and must not then hit what came to lie there
    # meanwhile: a thread's stack, or an arena full of keys.
    if _mmap(address, length, _PROT_NONE, _MAP_ANONYMOUS_FIXED, -1, 0) != address:
        raise _failure("mmap")
    raise failure


def mlock2(address: int, length: int, flags: int) -> None:
    """Keep a mapping out of swap; counts against RLIMIT_MEMLOCK (mlock2(2))."""
    if _mlock2(address, length, flags) != 0:
        raise _failure("mlock")


def fill_random(address: int, length: int) -> None:
    """Write ``length`` random bytes of the kernel at ``address``; no Python object ever holds them."""
    done = 0
    while done < length:
        # A signal may cut a request of more than 256 bytes short (getrandom(2)), so it is repeated.
        count = _getrandom(address + done, length - done, 0)
        if count > 0:
            done += count
        elif ctypes.get_errno() != errno.EINTR:
            raise _failure("getrandom")


def prctl(option: int, argument: int = 0) -> int:
    """One process control call with one argument (prctl(2))."""
    result = _prctl(option, argument, 0, 0, 0)
    if result < 0:
        raise _failure("prctl")
    return result
