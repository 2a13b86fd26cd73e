"""The data keys at hand: bounded, zeroed when they leave, and the ones in use stay."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from keyholt_agent.keys.data_keys import ARENA_SHARE, MOST, NOT_KEPT, UNSEATED, DataKeys
from keyholt_agent.memory import Arena
from keyholt_agent.memory.backing import open_backing
from keyholt_protocol.errors import ResourceExhaustedError

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


def test_hand_passes_those_in_use_again_and_again(keys: DataKeys) -> None:
    """Round after round the keys that are asked for stay, wherever the hand comes to the end."""
    busy = [Secret() for _ in range(SEATS // 2)]
    for number, secret in enumerate(busy):
        keys.keep(secret, key(number))
    for number in range(5 * SEATS):
        for other, secret in enumerate(busy):
            assert keys.of(secret) == key(other)
        keys.keep(Secret(), key(number))


def test_seat_that_was_given_up_is_taken_first(keys: DataKeys) -> None:
    """A secret that is written again and again touches no more of the memory than one does."""
    for number in range(SEATS):
        secret = Secret()
        keys.keep(secret, key(number))
        assert secret.seat == 0
        keys.forget(secret)
        keys.forget(secret)  # again is harmless
    assert not any(memory(keys))


def test_forgotten_as_a_whole(keys: DataKeys) -> None:
    """Nothing is left of any, and the seats are free for others."""
    secrets = [Secret() for _ in range(SEATS)]
    for number, secret in enumerate(secrets):
        keys.keep(secret, key(number))
    keys.forget(secrets[3])
    assert sum(map(bool, memory(keys))) == (SEATS - 1) * 32
    keys.forget_all()
    assert not any(memory(keys))
    assert all(secret.seat == NOT_KEPT for secret in secrets)
    late = [Secret() for _ in range(SEATS)]
    for number, secret in enumerate(late):
        keys.keep(secret, key(number))
    assert all(keys.of(secret) == key(number) for number, secret in enumerate(late))


def test_release_zeroes(small: Arena) -> None:
    """The memory goes back to the arena without a key in it, and whoever comes later is not kept."""
    keys = DataKeys(small)
    address = keys._block.address
    secret = Secret()
    keys.keep(secret, key(1))
    assert any(ctypes.string_at(address, SEATS * 32))
    assert repr(keys) == "<DataKeys 32 seats>"
    keys.release()
    assert not any(ctypes.string_at(address, SEATS * 32))
    assert keys.of(secret) is None
    late = Secret()
    keys.keep(late, key(2))
    assert keys.of(late) is None
    keys.forget_all()


@pytest.mark.parametrize("size, seats", [(32 << 20, MOST), (8 << 20, 32 * 1024), (1 << 20, 4096)])
def test_number_of_seats(size: int, seats: int) -> None:
    """As many as the usual cache holds secrets in an arena of the usual size, an eighth of a smaller one."""
    arena = Arena(open_backing("auto", size))
    keys = DataKeys(arena)
    assert repr(keys) == f"<DataKeys {seats} seats>"
    assert arena.usage.used == seats * 32 <= size // ARENA_SHARE
    keys.release()
    arena.close()


def test_full_arena_leaves_fewer_seats() -> None:
    """A store opens even where there is hardly any memory left, or none at all."""
    arena = Arena(open_backing("mlock", 1 << 20))
    taken = [arena.allocate(32 * 1024) for _ in range(25)]
    keys = DataKeys(arena)
    assert repr(keys) == "<DataKeys 2048 seats>"
    keys.release()
    few = Arena(open_backing("mlock", SEATS * 32 * ARENA_SHARE))
    taken.append(few.allocate(few.size - 64))
    keys = DataKeys(few)
    assert repr(keys) == "<DataKeys 2 seats>"
    keys.release()
    taken.append(few.allocate(64))
    with pytest.raises(ResourceExhaustedError):
        DataKeys(few)  # not a byte of it
    for buffer in taken:
        buffer.release()
    arena.close()
    few.close()
