"""Key derivations that are remembered, for the tests that ask for the same ones again and again; or cheap.

Argon2 at the least cost that is allowed takes 64 MiB and a fifth of a second of a processor, and some tests
unlock ten times. It is a function, so what it gave once is what it would give again: a test goes the whole
way of an unlock, with its thread and the real parameters, and only the lanes stand still. Argon2 is tested
by ``tests/agent/keys/test_kdf.py``. An agent that is a process of its own derives each time: cheaply where it
is a prepared one (``tests.support.prepared``).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    Argon2id = Callable[[memoryview, bytes, "Costs", memoryview], int]

__all__ = ["Costs", "Remembered", "RepeatedDraws", "cheapened", "cheapest"]

Costs = tuple[int, int, int]
"""Passes, KiB, lanes."""


def cheapened(argon2id: Argon2id) -> Argon2id:
    """Argon2 that takes the least that it can, whatever it is asked for; see ``cheapest``."""

    def cheap(passphrase: memoryview, salt: bytes, costs: Costs, target: memoryview) -> int:
        return argon2id(passphrase, *cheapest(salt, costs), target)

    return cheap


def cheapest(salt: bytes, costs: Costs) -> tuple[bytes, Costs]:
    """Salt and costs of a derivation of 1 ms instead of 200 ms; other ones for all other ones."""
    lanes = costs[2]
    return hashlib.blake2b(b"%d %d %d" % costs + salt, digest_size=len(salt)).digest(), (1, 8 * lanes, lanes)


class RepeatedDraws:
    """Stands in for ``KernelRandomness.draw``: ids and salts, no two alike, the same ones for each test.

    So two tests that do the same have the same derivations.
    """

    def __init__(self) -> None:
        self._drawn = 0

    def __call__(self, size: int) -> bytes:
        self._drawn += 1
        return hashlib.blake2b(self._drawn.to_bytes(8, "big"), digest_size=size).digest()


class Remembered:
    """Stands before ``argon2id``, which is ``kdf._argon2id``, and asks it once for each input.

    A failure is not remembered. Threads may derive at once; two that ask for the same may both ask.
    """

    def __init__(self, argon2id: Argon2id) -> None:
        self._argon2id: Final = argon2id
        self._known: Final[dict[tuple[bytes, bytes, Costs], bytes]] = {}

    def __call__(self, passphrase: memoryview, salt: bytes, costs: Costs, target: memoryview) -> int:
        asked = (bytes(passphrase), salt, costs)
        known = self._known.get(asked)
        if known is not None and len(known) == len(target):
            target[:] = known
            return 0
        if result := self._argon2id(passphrase, salt, costs, target):
            return result
        self._known[asked] = bytes(target)
        return 0
