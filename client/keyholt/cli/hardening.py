"""What the command line does to its process at its start: nobody looks into it, and nothing of it is dumped.

- RLIMIT_CORE is 0, so that a crash writes no core. The hard limit stays, for it could not be raised again:
  ``keyholt run`` gives the command the limits that it would have had.
- ``PR_SET_DUMPABLE`` is 0: no process of the same user reads the memory or attaches a debugger, and no core
  is written where ``core_pattern`` pipes to a program (core(5)). The kernel sets it back when a command is
  executed, which is another program then.
- `keyholt get` goes through here. ``ctypes`` takes 2 ms to import; its C part alone, which calls the function
  as well, a fifth of that.
"""

from __future__ import annotations

import resource

__all__ = ["harden", "restore_core_limits"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_PR_SET_DUMPABLE: Final = 4

_limits_before: list[tuple[int, int]] = []
"""The limits on core files that the process was started with, once they were lowered."""


def harden() -> None:
    """Turn off core dumps and close the process's memory to others; again is harmless.

    Raises:
        OSError: the kernel refuses one of them.
    """
    limits = resource.getrlimit(resource.RLIMIT_CORE)
    if not _limits_before:
        _limits_before.append(limits)
    resource.setrlimit(resource.RLIMIT_CORE, (0, limits[1]))
    if _prctl(_PR_SET_DUMPABLE, 0) != 0:
        raise OSError("the memory cannot be closed to other processes: PR_SET_DUMPABLE did not take")


def restore_core_limits() -> None:
    """Set the limits on core files to what they were before ``harden``, for a command that takes over."""
    if _limits_before:
        resource.setrlimit(resource.RLIMIT_CORE, _limits_before.pop())


def _prctl(option: int, value: int) -> int:
    try:
        import _ctypes

        program = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]  # the program itself, as in dlopen(3)
        function = _ctypes.dlsym(program, "prctl")
        result: int = _ctypes.call_function(function, (option, value, 0, 0, 0))
    except AttributeError:  # a Python whose C part has other names: the long way, which is documented
        import ctypes

        result = ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
    return result
