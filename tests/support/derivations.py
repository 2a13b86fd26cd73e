"""Key derivations that are cheap, for the tests of everything around them.

Argon2 at the least cost that is allowed takes 64 MiB and a fifth of a second of a processor, and some tests
unlock ten times. With this a test goes the whole way of an unlock, with its thread and the real parameters,
and only the lanes stand still. Argon2 itself is tested by ``tests/agent/keys/test_kdf.py``.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    Argon2id = Callable[[memoryview, bytes, "Costs", memoryview], int]

__all__ = ["Costs", "cheapened", "cheapest"]

Costs = tuple[int, int, int]
"""Passes, KiB, lanes."""


def cheapened(argon2id: Argon2id) -> Argon2id:
    """``kdf._argon2id`` with the least that Argon2 can take, whatever it is asked for; see ``cheapest``."""

    def cheap(passphrase: memoryview, salt: bytes, costs: Costs, target: memoryview) -> int:
        return argon2id(passphrase, *cheapest(salt, costs), target)

    return cheap


def cheapest(salt: bytes, costs: Costs) -> tuple[bytes, Costs]:
    """Salt and costs of a derivation of 1 ms instead of 200 ms; other ones for all other ones."""
    lanes = costs[2]
    return hashlib.blake2b(b"%d %d %d" % costs + salt, digest_size=len(salt)).digest(), (1, 8 * lanes, lanes)
