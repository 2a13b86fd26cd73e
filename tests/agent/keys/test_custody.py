"""Software custody: what it made for a store opens there, and nothing else does."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from keyholt_agent.keys.custody import SoftwareCustody
from keyholt_agent.keys.envelope import bind
from keyholt_agent.keys.randomness import KERNEL
from keyholt_protocol.errors import IntegrityError
from tests.agent.keys.builders import ROOT_REFERENCE, STORE, create

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyholt_agent.keys.envelope import KeyReference
    from keyholt_agent.keys.wrapping_key import SoftwareKey
    from keyholt_agent.memory import Arena

CONTEXT = bind(STORE, "a")


def test_what_was_created_opens(arena: Arena, custody: SoftwareCustody) -> None:
    """The same key each time: what one wraps the other unwraps. Two that were created are two keys."""
    stored, other = create(custody), create(custody)
    one, again, second = custody.open(stored), custody.open(stored), custody.open(other)
    with one, again, second, arena.allocate(32) as key, arena.allocate(32) as target:
        KERNEL.fill(key)
        wrapped = one.wrap(7, CONTEXT, key.view)
        again.unwrap(wrapped, 7, CONTEXT, target.view)
        assert target.view == key.view
        with pytest.raises(IntegrityError):
            second.unwrap(wrapped, 7, CONTEXT, target.view)


@pytest.mark.parametrize(
    "field, value",
    [("name", "other"), ("key_id", b"x" * 16), ("version", 2), ("wrapped", b""), ("wrapped", bytes(90))],
)
def test_changed_master_key_is_refused(custody: SoftwareCustody, field: str, value: object) -> None:
    """Name, id and version are authentic; nothing stays in the arena."""
    changes: dict[str, Any] = {field: value}
    with pytest.raises(IntegrityError):
        custody.open(replace(create(custody), **changes))


def test_every_byte_counts(
    arena: Arena, custody: SoftwareCustody, software_key: Callable[[KeyReference, bytes], SoftwareKey]
) -> None:
    """Each byte of a wrapped master key, flipped; another store, another wrapping key."""
    key = create(custody)
    for offset in range(len(key.wrapped)):
        damaged = bytearray(key.wrapped)
        damaged[offset] ^= 0xFF
        with pytest.raises(IntegrityError):
            custody.open(replace(key, wrapped=bytes(damaged)))
    wrapping, other = software_key(ROOT_REFERENCE, b"w" * 32), software_key(ROOT_REFERENCE, bytes(32))
    for elsewhere in (
        SoftwareCustody(arena, wrapping, bytes(16), KERNEL),
        SoftwareCustody(arena, other, STORE, KERNEL),
    ):
        with pytest.raises(IntegrityError):
            elsewhere.open(key)
