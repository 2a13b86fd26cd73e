"""Cheap derivations are derivations: each input has its own, and a failure is one."""

from __future__ import annotations

from keyholt_agent.keys import kdf
from tests.support.derivations import Costs, cheapened

FLOOR: Costs = (3, 64 * 1024, 4)


def derive(passphrase: bytes, salt: bytes, costs: Costs) -> bytes:
    """What is derived."""
    target = bytearray(32)
    assert cheapened(kdf._argon2id)(memoryview(passphrase), salt, costs, memoryview(target)) == 0
    return bytes(target)


def test_each_input_has_its_own() -> None:
    """Asked again it is the same; another passphrase, salt, time, memory or parallelism gives another."""
    salt = bytes(16)
    inputs = [(b"a", salt, FLOOR), (b"b", salt, FLOOR), (b"a", b"s" * 16, FLOOR)]
    inputs += [(b"a", salt, costs) for costs in ((4, 64 * 1024, 4), (3, 65 * 1024, 4), (3, 64 * 1024, 5))]
    first = [derive(*one) for one in inputs]
    assert len(set(first)) == len(inputs)
    assert [derive(*one) for one in inputs] == first


def test_failure_is_one() -> None:
    """A derivation that finds no memory says so."""

    def exhausted(passphrase: memoryview, salt: bytes, costs: Costs, target: memoryview) -> int:
        return -22

    assert cheapened(exhausted)(memoryview(b"a"), bytes(16), FLOOR, memoryview(bytearray(32))) == -22
