"""Where keys, nonces, ids and salts come from: an argument of everything that seals.

- A key is written by its source straight into locked memory; no object of the interpreter ever holds it.
- Nonces, ids and salts are public.
- Nothing is drawn ahead: a virtual machine that is cloned, and a process that forks, would hand out twice
  what lies ready (docs/adr/0023).

``KERNEL`` is the only source so far. Another one, a token that mixes its own in, say, takes its place here.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, Protocol

from keyholt_agent.clocks import fine_time
from keyholt_agent.keys.envelope import NONCE_SIZE
from keyholt_agent.memory import LockedBuffer
from keyholt_agent.memory.syscalls import fill_random

__all__ = ["KERNEL", "KernelRandomness", "Randomness"]


class Randomness(Protocol):
    """A source of randomness."""

    def fill(self, target: LockedBuffer) -> None:
        """Fill locked memory with the bytes of a new key."""
        ...

    def nonce(self) -> bytes:
        """A nonce that was never given out."""
        ...

    def draw(self, size: int) -> bytes:
        """Random bytes that are no secret: an id, a salt."""
        ...


class KernelRandomness:
    """getrandom(2).

    Args:
        chance: gives that many random bytes, at once.
        clock: nanoseconds, of any beginning.
    """

    __slots__ = ("_chance", "_clock")

    def __init__(
        self, chance: Callable[[int], bytes] = os.getrandom, clock: Callable[[], int] = fine_time
    ) -> None:
        self._chance: Final = chance
        self._clock: Final = clock

    def fill(self, target: LockedBuffer) -> None:
        fill_random(target.address, len(target))

    def nonce(self) -> bytes:
        """Drawn now, with the time mixed in.

        The kernel draws anew when it is told that the machine was cloned (VmGenId). Where nobody tells it,
        two clones draw the same bytes, the same data keys too, but not in the same nanosecond. Twelve random
        bytes XORed with anything that does not depend on them are as random as before.

        Not ``os.urandom``: it lets go of the interpreter's lock, and getting that back from the store's
        thread costs a writer forty times the call (measured).
        """
        drawn = int.from_bytes(self._chance(NONCE_SIZE), "big")
        return (drawn ^ self._clock()).to_bytes(NONCE_SIZE, "big")

    def draw(self, size: int) -> bytes:
        return os.urandom(size)


KERNEL: Final = KernelRandomness()
