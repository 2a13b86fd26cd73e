"""A process that gives nothing back of what its interpreter allocates: every object it ever had can be found.

A secret that passes through an object, ``bytes`` say, is in freed memory afterwards, until that is used
again. In CPython the next object of the size does so, which hides it from a search: most of the time, on this
machine. Here it stays.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Final

from tests.support.agent_process import AgentProcess
from tests.support.programs import KEYHOLT_AGENT

__all__ = ["Hoarding", "hoard"]

OBJECTS: Final = 2
"""PYMEM_DOMAIN_OBJ, which objects are allocated in."""


class _Allocator(ctypes.Structure):
    """PyMemAllocatorEx."""

    _fields_ = (
        ("context", ctypes.c_void_p),
        ("malloc", ctypes.c_void_p),
        ("calloc", ctypes.c_void_p),
        ("realloc", ctypes.c_void_p),
        ("free", ctypes.c_void_p),
    )


def hoard() -> None:
    """From now on, for this process."""
    allocator = _Allocator()
    ctypes.pythonapi.PyMem_GetAllocator(OBJECTS, ctypes.byref(allocator))
    # It is called as free would be, and does nothing with it.
    allocator.free = ctypes.cast(ctypes.pythonapi.Py_IsInitialized, ctypes.c_void_p).value
    ctypes.pythonapi.PyMem_SetAllocator(OBJECTS, ctypes.byref(allocator))


class Hoarding(AgentProcess):
    """An agent that does so."""

    def command(self) -> list[str]:
        program = (
            "import sys\n"
            f"sys.path.append({os.fspath(Path(__file__).parents[2])!r})\n"
            "from tests.support.hoarding import hoard\n"
            "hoard()\n"
            "from keyholt_agent.main import main\n"
            "sys.exit(main())\n"
        )
        command = super().command()
        at = command.index(KEYHOLT_AGENT)
        return [*command[:at], "-c", program, *command[at + 1 :]]
