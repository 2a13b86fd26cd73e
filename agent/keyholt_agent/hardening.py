"""What the process does to itself before it holds any key.

- No core dumps: RLIMIT_CORE is 0, soft and hard, so that it cannot be raised again.
- ``PR_SET_DUMPABLE`` 0: no process of the same user reads the memory or attaches a debugger, and no core is
  written where ``core_pattern`` pipes to a program, for which the limit does not count (core(5)).
- umask 0077: whatever is created is the owner's alone.

Each is read back: a setting that did not take is an error, not a hope. It does not restrict system calls or
the file system; the service manager does that.
"""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from keyholt_agent.memory.syscalls import prctl

__all__ = ["Hardening", "HardeningError", "examine", "harden"]

_PR_GET_DUMPABLE: Final = 3
_PR_SET_DUMPABLE: Final = 4
_UMASK: Final = 0o077


class HardeningError(Exception):
    """The process cannot be hardened; the message says which setting did not take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardening:
    """How hardened the process is.

    Attributes:
        core_limit: bytes of core that may be written, soft and hard; (0, 0) is none, now and later.
        dumpable: whether the kernel would write a core, or let the same user read the memory.
        umask: of files to be created.
    """

    core_limit: tuple[int, int]
    dumpable: bool
    umask: int


def harden() -> None:
    """Harden this process, and check that it is.

    Raises:
        HardeningError: a setting did not take.
    """
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        prctl(_PR_SET_DUMPABLE, 0)
    except OSError as error:
        raise HardeningError(f"cannot harden the process: {error.strerror}") from error
    os.umask(_UMASK)
    _require(examine())


def examine() -> Hardening:
    """What is in force now."""
    return Hardening(
        core_limit=resource.getrlimit(resource.RLIMIT_CORE),
        dumpable=prctl(_PR_GET_DUMPABLE) != 0,
        umask=_read_umask(),
    )


def _require(state: Hardening) -> None:
    if state.core_limit != (0, 0):
        raise HardeningError("core dumps cannot be turned off: RLIMIT_CORE did not take")
    if state.dumpable:
        raise HardeningError(
            "the memory cannot be guarded from other processes: PR_SET_DUMPABLE did not take"
        )
    if state.umask != _UMASK:
        raise HardeningError(f"the umask is {state.umask:04o} and cannot be set to {_UMASK:04o}")


def _read_umask() -> int:
    # os.umask() can only be read by setting it, which another thread would notice.
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    raise HardeningError("/proc/self/status does not tell the umask; is /proc mounted?")
