"""Remembered derivations are those that were made, each for its own input."""

from __future__ import annotations

import hashlib

from tests.support.derivations import Costs, Remembered, RepeatedDraws

FLOOR: Costs = (3, 64 * 1024, 4)


class Counted:
    """A function of the same form as Argon2, and cheaper; and how often it was asked."""

    def __init__(self, result: int = 0) -> None:
        self.result = result
        self.asked = 0

    def __call__(self, passphrase: memoryview, salt: bytes, costs: Costs, target: memoryview) -> int:
        self.asked += 1
        if not self.result:
            asked = bytes(passphrase) + b"|" + salt + repr(costs).encode()
            target[:] = hashlib.blake2b(asked, digest_size=len(target)).digest()
        return self.result


def derive(remembered: Remembered, passphrase: bytes, salt: bytes, costs: Costs) -> bytes:
    """What is derived."""
    target = bytearray(32)
    assert remembered(memoryview(passphrase), salt, costs, memoryview(target)) == 0
    return bytes(target)


def test_what_is_remembered_is_what_was_derived() -> None:
    """Asked again it is the same, and any other passphrase, salt or cost has a derivation of its own."""
    function = Counted()
    remembered = Remembered(function)
    salt, dearer = bytes(16), (4, 64 * 1024, 4)
    inputs = [(b"a", salt, FLOOR), (b"b", salt, FLOOR), (b"a", b"s" * 16, FLOOR), (b"a", salt, dearer)]
    first = [derive(remembered, *one) for one in inputs]
    assert len(set(first)) == len(inputs) == function.asked
    assert [derive(remembered, *one) for one in inputs] == first
    assert function.asked == len(inputs)


def test_failure_is_not_remembered() -> None:
    """A derivation that found no memory says so, and the next one is tried anew."""
    function = Counted(result=-22)
    remembered = Remembered(function)
    target = bytearray(32)
    assert remembered(memoryview(b"a"), bytes(16), FLOOR, memoryview(target)) == -22
    function.result = 0
    assert derive(remembered, b"a", bytes(16), FLOOR) != bytes(32)
    assert function.asked == 2


def test_draws_are_repeated_from_the_beginning() -> None:
    """No two of a sequence are alike, and another sequence is the same."""
    draws, again = RepeatedDraws(), RepeatedDraws()
    drawn = [draws(16) for _ in range(100)]
    assert len(set(drawn)) == 100
    assert [again(16) for _ in range(100)] == drawn
