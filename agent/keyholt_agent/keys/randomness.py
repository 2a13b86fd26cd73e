"""Where keys, nonces, ids and salts come from: an argument of everything that seals.

- A key is written by its source straight into locked memory; no object of the interpreter ever holds it.
- Nonces, ids and salts are public.

``KERNEL`` is the only source so far. Another one, a token that mixes its own in, say, takes its place here.
"""

from __future__ import annotations

import os
from typing import Final, Protocol

from keyholt_agent.keys.envelope import NONCE_SIZE
from keyholt_agent.memory import LockedBuffer
from keyholt_agent.memory.syscalls import fill_random

__all__ = ["KERNEL", "KernelRandomness", "Randomness"]

_NONCES_AT_ONCE: Final = 256


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
    """getrandom(2)."""

    __slots__ = ("_nonces",)

    def __init__(self) -> None:
        self._nonces: list[bytes] = []

    def fill(self, target: LockedBuffer) -> None:
        fill_random(target.address, len(target))

    def nonce(self) -> bytes:
        """Drawn some hundred at a time.

        ``os.urandom`` lets go of the interpreter's lock, and getting it back from the store's thread costs a
        writer forty times the call (measured).
        """
        try:
            return self._nonces.pop()
        except IndexError:
            block = os.urandom(NONCE_SIZE * _NONCES_AT_ONCE)
            rest = range(NONCE_SIZE, len(block), NONCE_SIZE)
            self._nonces.extend(block[at : at + NONCE_SIZE] for at in rest)
            return block[:NONCE_SIZE]

    def draw(self, size: int) -> bytes:
        return os.urandom(size)

    def forget_nonces(self) -> None:
        """Begin with none that were drawn ahead."""
        self._nonces.clear()


KERNEL: Final = KernelRandomness()
os.register_at_fork(after_in_child=KERNEL.forget_nonces)  # or the child would give out its parent's
