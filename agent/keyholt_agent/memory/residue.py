"""What operations leave where nobody looks: in vector registers, and on the dead part of the stack.

AES leaves its round keys and the last blocks of plaintext in vector registers; copying leaves what it copied.
From there it comes into core dumps, into threads that are started afterwards, and onto the stack: the dynamic
linker spills all vector registers when a symbol is first bound, the kernel when it delivers a signal. Below
the stack pointer lies what finished calls wrote there.

What must hold (``tests/agent/memory/test_residue.py`` plants it everywhere, and looks):

- When trio's loop waits, neither the registers of its thread nor the dead stack below any task hold anything
  of what the tasks did: ``ResidueClearing``. Under a load that never lets the loop wait, this holds every
  ``MOST_SKIPPED`` turns.
- A thread starts with clean registers, for it is given those of the thread that starts it, and leaves nothing
  in its own: ``run_in_thread``.

It clears the thread that calls it and no other, and nothing that is still in use. Between two waits a
register holds what is being worked with; whoever can stop the agent there has it. It is proven for x86-64, on
each of the code paths that OpenSSL and the C library choose by the processor; the tests look at nothing else.
"""

from __future__ import annotations

import ctypes
import logging
import signal
from contextvars import copy_context
from typing import TYPE_CHECKING, Final, TypeVar

import trio
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ResidueClearing", "clear_registers", "clear_residue", "run_in_thread"]

T = TypeVar("T")

DEPTH: Final = 64 * 1024
"""Bytes of dead stack that are cleared. No operation reaches further down than 46 KiB, most of which is one
array of msgpack's decoder; a test looks how far they reach."""

MOST_SKIPPED: Final = 64
"""Turns of a loop that has no time to wait, of which only the last is followed by clearing."""

_log: Final = logging.getLogger("keyholt.memory")

_seal: Final = AESGCM(bytes(32)).encrypt
_NONCE: Final = bytes(12)
_PLAINTEXT: Final = bytes(1024)
_ADDITIONAL: Final = bytes(64)
"""Long enough for the loops that work on many blocks at once, and with data to authenticate: these are the
code paths that use the most registers (measured; without the latter one of 32 kept what it held)."""


class _Zeroes(ctypes.Structure):
    _fields_ = (("zeroes", ctypes.c_char * DEPTH),)


_ZEROES: Final = _Zeroes()
_take_by_value: Final = ctypes.PyDLL(None)["abs"]
_take_by_value.argtypes = (_Zeroes,)
_take_by_value.restype = None
_fill_table: Final = b"".translate


def clear_registers() -> None:
    """Overwrite the vector registers of this thread with what is no secret.

    AES-GCM under a key of zeroes takes the code path that an operation with a real key took before it, and so
    the same registers; with AVX-512 all 32 of them, whole. What an older processor's path does not touch is
    touched by nothing else that handles secrets, the C library's copying included.
    """
    _seal(_NONCE, _PLAINTEXT, _ADDITIONAL)


def clear_residue() -> None:
    """Overwrite vector registers and dead stack of this thread, the stack from below the caller on.

    Only finished calls and the ones made here ever own that memory: no address is computed, so none is wrong.
    """
    clear_registers()  # first: the calls below might spill them
    # Passed by value, the zeroes are copied below the frames that make the call (System V ABI, AMD64, 3.2.3).
    # The function looks at none of them.
    _take_by_value(_ZEROES)
    # Those frames have gaps in which older things survive. Called without going through any of them, this
    # fills a table of 1 KiB, the first of its variables, in the same place.
    _fill_table(None, b"\0")


class ResidueClearing(trio.abc.Instrument):
    """Has trio's loop clear what the tasks left, each time before it waits.

    The loop calls it from above the frames of every task, so what is dead by then lies below it. An agent
    that cannot clear stops: trio itself would only log the failure, and call this no more.
    """

    def __init__(self) -> None:
        self._skipped = 0

    def before_io_wait(self, timeout: float) -> None:
        if timeout > 0 or self._skipped >= MOST_SKIPPED:
            self._skipped = 0
            try:
                clear_residue()
            except MemoryError:  # the next turn tries again, whether it waits or not
                self._skipped = MOST_SKIPPED
            except Exception:
                _log.critical("what operations leave behind cannot be cleared; stopping", exc_info=True)
                signal.raise_signal(signal.SIGTERM)
        else:
            self._skipped += 1


async def run_in_thread(function: Callable[..., T], *arguments: object) -> T:
    """As ``trio.to_thread.run_sync``, without a limiter, and with nothing left behind in either thread.

    It cannot be cancelled: whoever is, waits for the function's end.
    """
    task = trio.lowlevel.current_task()
    token = trio.lowlevel.current_trio_token()

    def deliver(result: Outcome[T]) -> None:
        token.run_sync_soon(trio.lowlevel.reschedule, task, result)

    await trio.lowlevel.checkpoint_if_cancelled()
    # With no checkpoint from here to the start of the thread: no task may fill the registers again.
    clear_registers()
    trio.lowlevel.start_thread_soon(lambda: _contained(function, *arguments), deliver)
    result: T = await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
    return result


def _contained(function: Callable[..., T], *arguments: object) -> T:
    """Call the function, and clear what it left in this thread."""
    try:
        # Through a call of C, which puts its frames below those of the clearing.
        return copy_context().run(function, *arguments)
    finally:
        clear_residue()
