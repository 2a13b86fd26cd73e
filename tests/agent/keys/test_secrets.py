"""Secrets are sealed with a permit and open in their place only, at once or in the time of a token's key."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

import pytest
import trio

from keyholt_agent.key_states import Custody
from keyholt_agent.keys.data_keys import NOT_KEPT, UNSEATED
from keyholt_agent.keys.envelope import bind
from keyholt_agent.keys.master_key import ReserveWraps, WrapPermit
from keyholt_agent.keys.master_keys import MasterKeys
from keyholt_agent.keys.randomness import KERNEL
from keyholt_agent.keys.secrets import OpenableSecret, SealedSecret, SecretKeys
from keyholt_agent.memory import LockedBuffer
from keyholt_protocol.errors import IntegrityError, InternalError, LockedError, TooLargeError
from tests.agent.keys.builders import STORE, create, custodians

if TYPE_CHECKING:
    from collections.abc import Iterator

    from keyholt_agent.keys.custody import SealedMasterKey, SoftwareCustody, StoredMasterKey
    from keyholt_agent.keys.envelope import Context
    from keyholt_agent.keys.wrapping_key import SoftwareKey
    from keyholt_agent.memory import Arena

VALUE: Final = b"a secret value"
T = TypeVar("T")


class Store:
    """The keys of an open store, and what it takes to use them."""

    def __init__(self, arena: Arena, masters: MasterKeys) -> None:
        self.masters = masters
        self.keys = SecretKeys(arena, STORE, masters, KERNEL)

    def permit(self) -> WrapPermit:
        """A permit, reserved as a store would."""
        master = self.masters.named("default")
        need = master.need()
        if isinstance(need, ReserveWraps):
            master.granted(need)
        return master.permit()

    def seal(self, path: str = "a/b", version: int = 1, value: bytes = VALUE) -> SealedSecret:
        sealed = self.keys.seal(self.permit(), path, version, b"meta", memoryview(value))
        assert isinstance(sealed, SealedSecret)
        return sealed

    def open(self, secret: OpenableSecret) -> bytes:
        opened = self.keys.open(secret)
        assert isinstance(opened, LockedBuffer)
        with opened:
            return bytes(opened.view)

    def opened(self, sealed: SealedSecret, path: str = "a/b", version: int = 1) -> bytes:
        return self.open(openable(sealed, path, version))

    def release(self) -> None:
        self.keys.release()
        self.masters.release()


def openable(sealed: SealedSecret, path: str = "a/b", version: int = 1) -> OpenableSecret:
    """What the store would give, taken apart."""
    return OpenableSecret(bind(STORE, path, b"meta"), version, sealed.wrapped_key, sealed.value)


@pytest.fixture
def store(arena: Arena, custody: SoftwareCustody) -> Iterator[Store]:
    """With one software master key."""
    store = Store(arena, MasterKeys.load(custodians(custody), [create(custody)]))
    yield store
    store.release()
    store.release()


@pytest.mark.parametrize("size", [0, 1, 48, 100_000])
def test_values_of_any_size(store: Store, size: int) -> None:
    """Empty ones and large ones; the record says who wrapped its key."""
    sealed = store.seal(value=b"v" * size)
    assert store.opened(sealed) == b"v" * size
    assert (sealed.master_id, sealed.master_version) == (b"k" * 16, 1)


def test_sealing_uses_the_permit_up(store: Store) -> None:
    """With one permit one key is wrapped; a second one is refused, and nothing stays in the arena."""
    permit = store.permit()
    store.keys.seal(permit, "a", 1, b"", memoryview(VALUE))
    with pytest.raises(InternalError, match="used twice"):
        store.keys.seal(permit, "a", 2, b"", memoryview(VALUE))


def test_permit_of_a_locked_store_is_worth_nothing(store: Store) -> None:
    """Who locks means it for a write that has its permit already."""
    permit = store.permit()
    store.release()
    with pytest.raises(LockedError):
        store.keys.seal(permit, "a", 1, b"", memoryview(VALUE))


def test_data_key_is_at_hand_the_second_time(store: Store) -> None:
    """For a secret that may be kept: then its wrapped data key is not even looked at."""
    kept, once = openable(store.seal()), openable(store.seal())
    kept.seat = UNSEATED
    for secret in (kept, once):
        assert store.open(secret) == VALUE
    assert (kept.seat >= 0, once.seat) == (True, NOT_KEPT)
    kept.wrapped_key = once.wrapped_key = b"gone"
    assert store.open(kept) == VALUE
    with pytest.raises(IntegrityError):
        store.open(once)


def test_data_key_of_what_does_not_open_is_not_kept(arena: Arena, store: Store) -> None:
    """Nor does a failure leave anything in the arena, with the data key at hand or not."""
    sealed = store.seal()
    used = arena.usage.used
    damaged = openable(replace(sealed, value=sealed.value[:-1] + bytes([sealed.value[-1] ^ 1])))
    damaged.seat = UNSEATED
    with pytest.raises(IntegrityError):
        store.open(damaged)
    assert damaged.seat == UNSEATED
    kept = openable(sealed)
    kept.seat = UNSEATED
    store.open(kept)
    kept.nonce = bytes(12)
    with pytest.raises(IntegrityError):
        store.open(kept)
    assert arena.usage.used == used


def test_swapped_records_are_refused(store: Store) -> None:
    """Value and data key are of one place: path, version, metadata; whole rows do not move either."""
    one, two, newer = store.seal(), store.seal("a/c"), store.seal(version=2)
    for other in (two, newer):
        for swapped in (
            other,
            replace(one, value=other.value),
            replace(one, wrapped_key=other.wrapped_key),
        ):
            with pytest.raises(IntegrityError):
                store.opened(swapped)
    with pytest.raises(IntegrityError):
        store.open(OpenableSecret(bind(STORE, "a/b", b"other"), 1, one.wrapped_key, one.value))


def test_every_byte_counts(store: Store) -> None:
    """Each byte of value and wrapped key, flipped; each cut of them."""
    sealed = store.seal()
    for field in ("wrapped_key", "value"):
        record: bytes = getattr(sealed, field)
        for offset in range(len(record)):
            flipped = bytearray(record)
            flipped[offset] ^= 0xFF
            for damaged in (bytes(flipped), record[:offset], record + record[:offset] + b"x"):
                changes: dict[str, Any] = {field: damaged}
                with pytest.raises(IntegrityError):
                    store.opened(replace(sealed, **changes))


@pytest.mark.parametrize("at_hand", [False, True])
def test_no_room_for_the_value_is_said(arena: Arena, store: Store, *, at_hand: bool) -> None:
    """A value larger than the arena: TooLargeError, and nothing is kept."""
    used = arena.usage.used
    secret = openable(store.seal())
    if at_hand:
        secret.seat = UNSEATED
        store.open(secret)
    secret.size = 2 * 1024 * 1024
    with pytest.raises(TooLargeError):
        store.open(secret)
    assert arena.usage.used == used


async def slowly(answer: T | Awaitable[T]) -> T:
    """What is not there at once."""
    assert isinstance(answer, Awaitable)
    return await answer


class SlowKey:
    """A key as in a token: a real one that takes its time, until the test says so."""

    def __init__(self, key: SoftwareKey) -> None:
        self.key = key
        self.go_on = trio.Event()

    async def wrap(self, version: int, context: Context, key: memoryview) -> bytes:
        await self.go_on.wait()
        return self.key.wrap(version, context, key)

    async def unwrap(self, wrapped: bytes, version: int, context: Context, target: memoryview) -> None:
        await self.go_on.wait()
        self.key.unwrap(wrapped, version, context, target)

    def release(self) -> None:
        self.key.release()


class SlowCustody:
    """Keeps slow keys."""

    def __init__(self, custody: SoftwareCustody) -> None:
        self.custody = custody
        self.keys: list[SlowKey] = []

    def create(self, name: str, key_id: bytes, version: int) -> SealedMasterKey:
        return self.custody.create(name, key_id, version)

    def open(self, stored: StoredMasterKey) -> SlowKey:
        self.keys.append(SlowKey(self.custody.open(stored)))
        return self.keys[-1]

    def rewrapped(self, stored: StoredMasterKey, wrapping: SoftwareKey) -> bytes:
        return self.custody.rewrapped(stored, wrapping)


@pytest.fixture
def slow(custody: SoftwareCustody) -> SlowCustody:
    """The keeper of the slow master key."""
    return SlowCustody(custody)


@pytest.fixture
def slow_store(arena: Arena, custody: SoftwareCustody, slow: SlowCustody) -> Iterator[Store]:
    """With one master key that takes its time."""
    store = Store(arena, MasterKeys.load({Custody.SOFTWARE: slow}, [create(custody)]))
    yield store
    store.release()


async def test_slow_master_key_is_just_another_one(slow_store: Store, slow: SlowCustody) -> None:
    """Its secrets are sealed and opened all the same; several at a time do not touch each other's keys."""
    slow.keys[0].go_on.set()
    sealed = [
        await slowly(slow_store.keys.seal(slow_store.permit(), f"a/{n}", 1, b"meta", memoryview(b"%d" % n)))
        for n in range(5)
    ]
    secrets = [openable(one, f"a/{n}") for n, one in enumerate(sealed)]
    slow.keys[0].go_on = trio.Event()
    opened: dict[int, bytes] = {}

    async def fetch(number: int) -> None:
        with await slowly(slow_store.keys.open(secrets[number])) as buffer:
            opened[number] = bytes(buffer.view)

    async with trio.open_nursery() as nursery:
        for number in range(5):
            secrets[number].seat = UNSEATED
            nursery.start_soon(fetch, number)
        await trio.testing.wait_all_tasks_blocked()
        assert not opened
        slow.keys[0].go_on.set()
    assert opened == {n: b"%d" % n for n in range(5)}
    slow.keys[0].go_on = trio.Event()  # which nothing waits for any more: the data keys are at hand
    assert slow_store.open(secrets[3]) == b"3"


async def test_lock_while_a_slow_key_is_at_work(arena: Arena, slow_store: Store, slow: SlowCustody) -> None:
    """A fetch that comes back to a locked agent is refused, and leaves nothing behind."""
    slow.keys[0].go_on.set()
    sealed = await slowly(slow_store.keys.seal(slow_store.permit(), "a/b", 1, b"meta", memoryview(VALUE)))
    key = slow.keys[0]
    key.go_on = trio.Event()
    key.release = lambda: None  # type: ignore[method-assign] # the token itself is not locked
    secret = openable(sealed)
    secret.seat = UNSEATED

    async def fetch() -> None:
        with pytest.raises(LockedError):
            await slowly(slow_store.keys.open(secret))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fetch)
        await trio.testing.wait_all_tasks_blocked()
        slow_store.release()
        key.go_on.set()
    assert secret.seat < 0
    key.key.release()


async def test_cancelled_wait_leaves_nothing(slow_store: Store, slow: SlowCustody) -> None:
    """A fetch and a write that are given up give their memory back."""
    slow.keys[0].go_on.set()
    sealed = await slowly(slow_store.keys.seal(slow_store.permit(), "a/b", 1, b"meta", memoryview(VALUE)))
    secret = openable(sealed)
    slow.keys[0].go_on = trio.Event()
    async with trio.open_nursery() as nursery:

        async def write() -> None:
            await slowly(slow_store.keys.seal(slow_store.permit(), "b", 1, b"", memoryview(VALUE)))

        async def fetch() -> None:
            await slowly(slow_store.keys.open(secret))

        nursery.start_soon(write)
        nursery.start_soon(fetch)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
