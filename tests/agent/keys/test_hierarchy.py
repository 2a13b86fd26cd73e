"""Master keys: loading, finding, and counting their wraps ahead of use."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keyholt_agent.keys.envelope import KeyReference, RecordType, key_reference
from keyholt_agent.keys.hierarchy import (
    DEFAULT_MASTER,
    WRAP_RESERVATION,
    WRAPS_PER_MASTER_KEY,
    MasterKeys,
    ReserveWraps,
    RotateMaster,
    SealedMasterKey,
    create_master_key,
)
from keyholt_agent.keys.states import KeyState
from keyholt_protocol.errors import IntegrityError, InternalError

if TYPE_CHECKING:
    from keyholt_agent.memory import Arena

WRAP = memoryview(b"w" * 32)
STORE = bytes(range(16))


def create(arena: Arena, version: int = 1, **changes: object) -> SealedMasterKey:
    """A version of one default master key, with fields changed after it was sealed."""
    key = create_master_key(arena, WRAP, STORE, name=DEFAULT_MASTER, version=version, key_id=b"k" * 16)
    for field, value in changes.items():
        key = altered(key, field, value)
    return key


def altered(key: SealedMasterKey, field: str, value: object) -> SealedMasterKey:
    """A sealed key with one field changed in the store."""
    changes: dict[str, Any] = {field: value}
    return replace(key, **changes)


def reference(key_id: bytes, version: int) -> KeyReference:
    """How a data key names the master key that wraps it."""
    return key_reference(RecordType.DATA_KEY, key_id, version)


def test_versions_are_found_by_id_and_number(arena: Arena) -> None:
    """All usable versions load, each with a key of its own; the active one wraps."""
    stored = [
        create(arena, 1, state=KeyState.COMPROMISED),
        create(arena, 2, state=KeyState.DECRYPT_ONLY),
        create(arena, 3),
        create(arena, 4, state=KeyState.PENDING),
        create(arena, 5, state=KeyState.DESTROYED, wrapped=b""),
    ]
    masters = MasterKeys.load(arena, WRAP, STORE, stored)
    assert (masters.active_id, masters.active_version) == (b"k" * 16, 3)
    assert len({bytes(masters.key(reference(b"k" * 16, version))) for version in (1, 2, 3)}) == 3
    for key_id, version in ((b"k" * 16, 4), (b"k" * 16, 5), (b"x" * 16, 3)):
        with pytest.raises(IntegrityError, match="does not have"):
            masters.key(reference(key_id, version))
    assert repr(masters) == "<MasterKeys 3 versions>"
    masters.release()
    masters.release()


@pytest.mark.parametrize(
    "field, value",
    [("name", "other"), ("key_id", b"x" * 16), ("version", 2), ("wrapped", b""), ("wrapped", bytes(90))],
)
def test_changed_master_key_is_refused(arena: Arena, field: str, value: object) -> None:
    """Name, id and version are authentic; nothing stays in the arena."""
    with pytest.raises(IntegrityError):
        MasterKeys.load(arena, WRAP, STORE, [altered(create(arena), field, value)])


def test_every_byte_counts(arena: Arena) -> None:
    """Each byte of a wrapped master key, flipped; another store, another wrapping key."""
    key = create(arena)
    for offset in range(len(key.wrapped)):
        damaged = bytearray(key.wrapped)
        damaged[offset] ^= 0xFF
        with pytest.raises(IntegrityError):
            MasterKeys.load(arena, WRAP, STORE, [replace(key, wrapped=bytes(damaged))])
    with pytest.raises(IntegrityError):
        MasterKeys.load(arena, WRAP, bytes(16), [key])
    with pytest.raises(IntegrityError):
        MasterKeys.load(arena, memoryview(bytes(32)), STORE, [key])


@pytest.mark.parametrize("states", [[], [KeyState.DECRYPT_ONLY], [KeyState.ACTIVE, KeyState.ACTIVE]])
def test_exactly_one_version_is_active(arena: Arena, states: list[KeyState]) -> None:
    """None or two are a damaged store."""
    stored = [create(arena, version, state=state) for version, state in enumerate(states, 1)]
    with pytest.raises(IntegrityError, match="active master key"):
        MasterKeys.load(arena, WRAP, STORE, stored)


def test_no_wrap_without_a_reservation(arena: Arena) -> None:
    """Not even after a restart, when the rest of the last block counts as used."""
    masters = MasterKeys.load(arena, WRAP, STORE, [create(arena, wraps_reserved=WRAP_RESERVATION)])
    with pytest.raises(InternalError, match="not reserved"):
        masters.take_wrap()
    need = masters.wrap_need()
    assert need == ReserveWraps(key_id=b"k" * 16, version=1, count=WRAP_RESERVATION)
    masters.granted(need)
    for _ in range(WRAP_RESERVATION):
        assert masters.wrap_need() is None
        masters.take_wrap()
    with pytest.raises(InternalError):
        masters.take_wrap()
    masters.release()


@given(reserved=st.integers(0, WRAPS_PER_MASTER_KEY), used=st.lists(st.integers(0, 1500), max_size=8))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
def test_never_more_wraps_than_were_reserved(arena: Arena, reserved: int, used: list[int]) -> None:
    """Across restarts at any point, the store counts no less than was wrapped, and no more than the limit."""
    key, wraps = create(arena, wraps_reserved=reserved), reserved
    for count in used:
        masters = MasterKeys.load(arena, WRAP, STORE, [key])
        for _ in range(count):
            need = masters.wrap_need()
            if isinstance(need, RotateMaster):
                break
            if need is not None:
                key = replace(key, wraps_reserved=key.wraps_reserved + need.count)
                masters.granted(need)
            masters.take_wrap()
            wraps += 1
        masters.release()
        assert wraps <= key.wraps_reserved <= WRAPS_PER_MASTER_KEY


def test_used_up_version_asks_for_rotation(arena: Arena) -> None:
    """The last block is cut to the limit; then a new version takes over and the old one still unwraps."""
    masters = MasterKeys.load(arena, WRAP, STORE, [create(arena, wraps_reserved=WRAPS_PER_MASTER_KEY - 1)])
    need = masters.wrap_need()
    assert isinstance(need, ReserveWraps)
    assert need.count == 1
    masters.granted(need)
    masters.take_wrap()
    assert masters.wrap_need() == RotateMaster(key_id=b"k" * 16, name=DEFAULT_MASTER, version=1)
    masters.add(WRAP, STORE, create(arena, 2))
    assert masters.active_version == 2
    masters.granted(need)
    with pytest.raises(InternalError):
        masters.take_wrap()  # A reservation of the old version is worth nothing for the new one.
    masters.key(reference(b"k" * 16, 1))
    masters.release()


def test_older_version_made_active_is_refused(arena: Arena) -> None:
    """Whoever edits the states cannot have an old version, one that is compromised say, wrap again."""
    for newer in (KeyState.DECRYPT_ONLY, KeyState.COMPROMISED):
        with pytest.raises(IntegrityError, match="an older master key version"):
            MasterKeys.load(arena, WRAP, STORE, [create(arena, 1), create(arena, 2, state=newer)])


def test_version_that_is_caught_up_with_takes_no_further_slot(arena: Arena) -> None:
    """What the store says of a version is taken over as often as need be; its key is held once."""
    masters = MasterKeys.load(arena, WRAP, STORE, [create(arena, 1)])
    slots = arena.usage.slots
    for reserved in (1024, 2048, WRAPS_PER_MASTER_KEY):
        masters.add(WRAP, STORE, create(arena, 1, wraps_reserved=reserved))
    assert arena.usage.slots == slots
    assert isinstance(masters.wrap_need(), RotateMaster)
    masters.release()
