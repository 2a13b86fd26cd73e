"""Planting what can be told from all else where operations leave residue; an agent that never clears it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from keyholt_agent.memory import residue
from tests.support import registers
from tests.support.agent_process import AgentProcess
from tests.support.programs import KEYHOLT_AGENT

if TYPE_CHECKING:
    from tests.support.code_paths import CodePath

__all__ = ["REACH", "Careless", "plant", "plant_below"]

REACH: Final = residue.DEPTH - 8 * 1024
"""Bytes below the stack pointer of a waiting thread that are planted, and within which operations stay
(``tests/system/test_residue.py``). What is cleared beyond is for what differs between builds of Python."""


def plant(pid: int, tid: int, pattern: bytes, path: CodePath, spared: int = 0) -> set[int]:
    """Fill the vector registers of a thread, and all dead stack that operations reach, with 16 bytes over and
    over, the first bytes spared; gives the numbers of the registers.
    """
    with registers.stopped(tid):
        filled = registers.fill(tid, pattern, path.touches)
        plant_below(pid, registers.stack_pointer(tid) - spared, pattern, REACH - spared)
    return filled


def plant_below(pid: int, address: int, pattern: bytes, size: int) -> None:
    """Fill so many bytes of stack below an address."""
    with Path(f"/proc/{pid}/mem").open("r+b", buffering=0) as memory:
        memory.seek(address - size)
        memory.write(pattern * (size // len(pattern)))


class Careless(AgentProcess):
    """An agent that leaves registers and stack as they are."""

    def command(self) -> list[str]:
        program = (
            "import sys\n"
            "from keyholt_agent.memory import residue\n"
            "residue.clear_residue = residue.clear_registers = lambda: None\n"
            "from keyholt_agent.main import main\n"
            "sys.exit(main())\n"
        )
        command = super().command()
        at = command.index(KEYHOLT_AGENT)
        return [*command[:at], "-c", program, *command[at + 1 :]]
