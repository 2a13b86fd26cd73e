"""The data keys at hand: bounded, zeroed when they leave, and the ones in use stay."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from keyholt_agent.keys.data_keys import ARENA_SHARE, MOST, NOT_KEPT, UNSEATED, DataKeys
from keyholt_agent.memory import Arena
from keyholt_agent.memory.backing import open_backing

if TYPE_CHECKING:
    from collections.abc import Iterator

SEATS = 32


@dataclass(eq=False)
class Secret:
    """What has a data key."""

    seat: int = UNSEATED


@pytest.fixture
def small() -> Iterator[Arena]:
    """Locked memory in which there are 32 seats."""
    arena = Arena(open_backing("mlock", SEATS * 32 * ARENA_SHARE))
    yield arena
    assert arena.usage.used == 0
    arena.close()


@pytest.fixture
def keys(small: Arena) -> Iterator[DataKeys]:
    """Without any."""
    keys = DataKeys(small)
    yield keys
    keys.release()
    keys.release()


def key(number: int) -> memoryview:
    """A key that is told from all others and from zeroes."""
    return memoryview(bytes([number % 255 + 1]) * 32)


def memory(keys: DataKeys) -> bytes:
    """What lies in the pages."""
    return ctypes.string_at(keys._block.address, SEATS * 32)


def test_kept_key_is_at_hand(keys: DataKeys) -> None:
    """Until it is forgotten, and from then on no more; its memory is zeroed at once."""
    secret = Secret()
    assert keys.of(secret) is None
    keys.keep(secret, key(1))
    assert keys.of(secret) == key(1)
    assert memory(keys).count(1) == 0
    assert bytes(key(1)) in memory(keys)
    keys.forget(secret)
    assert secret.seat == NOT_KEPT
    assert keys.of(secret) is None
    assert not any(memory(keys))
    keys.keep(secret, key(1))  # it has left its cache: a key that comes late is not kept
    assert keys.of(secret) is None
    assert not any(memory(keys))


def test_key_is_kept_once(keys: DataKeys) -> None:
    """Two who opened the same secret at the same time take no second seat."""
    secret = Secret()
    keys.keep(secret, key(1))
    keys.keep(secret, key(1))
    keys.forget(secret)
    assert not any(memory(keys))


def test_number_is_bounded_and_those_in_use_stay(keys: DataKeys) -> None:
    """Whoever fetches a thousand secrets once each puts out none that is fetched all the time."""
    busy, others = Secret(), [Secret() for _ in range(1000)]
    keys.keep(busy, key(0))
    for number, other in enumerate(others, 1):
        assert keys.of(busy) == key(0)
        keys.keep(other, key(number))
        assert other.seat >= 0
        seated = [one for one in others if one.seat >= 0]
        assert len(seated) <= SEATS - 1
        assert len({one.seat for one in seated} | {busy.seat}) == len(seated) + 1
    held = {bytes(key(number)) for number, one in enumerate(others, 1) if one.seat >= 0}
    pages = memory(keys)
    assert {pages[at : at + 32] for at in range(0, len(pages), 32)} == held | {bytes(key(0))}


def test_seat_is_found_though_all_are_used(keys: DataKeys) -> None:
    """Then the one that was used first goes."""
    secrets = [Secret() for _ in range(SEATS)]
    for number, secret in enumerate(secrets):
        keys.keep(secret, key(number))
    assert all(keys.of(secret) is not None for secret in secrets)
    late = Secret()
    keys.keep(late, key(99))
    assert keys.of(late) == key(99)
    assert [secret.seat for secret in secrets].count(UNSEATED) == 1


def test_forgotten_as_a_whole(keys: DataKeys) -> None:
    """Nothing is left, and each may be kept again."""
    secrets = [Secret() for _ in range(SEATS)]
    for number, secret in enumerate(secrets):
        keys.keep(secret, key(number))
    keys.forget_all()
    assert not any(memory(keys))
    assert all(secret.seat == UNSEATED for secret in secrets)
    keys.keep(secrets[0], key(9))
    assert keys.of(secrets[0]) == key(9)


def test_release_zeroes(small: Arena) -> None:
    """The memory goes back to the arena, without a key in it."""
    keys = DataKeys(small)
    address = keys._block.address
    keys.keep(Secret(), key(1))
    assert any(ctypes.string_at(address, SEATS * 32))
    assert repr(keys) == "<DataKeys 32 seats>"
    keys.release()
    assert not any(ctypes.string_at(address, SEATS * 32))


def test_number_of_seats() -> None:
    """As many as are said in an arena of the usual size."""
    arena = Arena(open_backing("mlock", MOST * 32 * ARENA_SHARE))
    keys = DataKeys(arena)
    assert repr(keys) == "<DataKeys 4096 seats>"
    assert arena.usage.used == 128 * 1024
    keys.release()
    arena.close()
