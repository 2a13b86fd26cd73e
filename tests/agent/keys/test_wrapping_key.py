"""A key that wraps: what it wrapped it unwraps, in its place, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from keyholt_agent.keys.envelope import RecordType, bind, key_reference, referenced_key
from keyholt_protocol.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyholt_agent.keys.envelope import KeyReference
    from keyholt_agent.keys.wrapping_key import SoftwareKey, WrappingKey
    from keyholt_agent.memory import Arena

REFERENCE = key_reference(RecordType.DATA_KEY, b"i" * 16, 3)
CONTEXT = bind(bytes(16), "a", b"meta")
WRAPPED = memoryview(b"d" * 32)


@pytest.fixture
def key(software_key: Callable[[KeyReference, bytes], SoftwareKey]) -> SoftwareKey:
    """A key with a name."""
    return software_key(REFERENCE, b"k" * 32)


def test_software_key_is_a_wrapping_key(key: SoftwareKey) -> None:
    """By its types, as mypy sees it, and by what it gives: it answers at once."""
    wrapping: WrappingKey = key
    assert isinstance(wrapping.wrap(1, CONTEXT, WRAPPED), bytes)


def test_what_was_wrapped_is_unwrapped(arena: Arena, key: SoftwareKey) -> None:
    """Each time into another record, which names the key."""
    one, two = key.wrap(5, CONTEXT, WRAPPED), key.wrap(5, CONTEXT, WRAPPED)
    assert one != two
    assert referenced_key(one) == referenced_key(two) == REFERENCE
    with arena.allocate(32) as target:
        for record in (one, two):
            target.view[:] = bytes(32)
            key.unwrap(record, 5, CONTEXT, target.view)
            assert target.view == WRAPPED


def test_nothing_else_is_unwrapped(
    arena: Arena, key: SoftwareKey, software_key: Callable[[KeyReference, bytes], SoftwareKey]
) -> None:
    """Another version, another place, another key, one of another name: refused, and the target is zeroes."""
    record = key.wrap(5, CONTEXT, WRAPPED)
    renamed = software_key(key_reference(RecordType.DATA_KEY, b"x" * 16, 3), b"k" * 32)
    attempts: list[tuple[SoftwareKey, int, bytes]] = [
        (key, 6, CONTEXT),
        (key, 5, bind(bytes(16), "b", b"meta")),
        (software_key(REFERENCE, b"l" * 32), 5, CONTEXT),
        (renamed, 5, CONTEXT),
    ]
    with arena.allocate(32) as target:
        for other, version, context in attempts:
            target.view[:] = b"\xa5" * 32
            with pytest.raises(IntegrityError):
                other.unwrap(record, version, context, target.view)  # type: ignore[arg-type]  # Context or not
            assert target.view == bytes(32)


def test_released_key_is_gone(key: SoftwareKey) -> None:
    """Releasing again is harmless; wrapping is an error."""
    key.release()
    key.release()
    with pytest.raises(TypeError):
        key.wrap(1, CONTEXT, WRAPPED)
    assert repr(key) == "<SoftwareKey>"
