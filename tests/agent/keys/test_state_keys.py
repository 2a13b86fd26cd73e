"""The keys of the sealed state: elements as BLAKE2b has them, records of nobody else, and their end."""

from __future__ import annotations

import ctypes
import threading
from hashlib import blake2b
from itertools import permutations
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keyholt_agent.keys.envelope import RecordType, bind, header_under, key_reference, seal
from keyholt_agent.keys.randomness import KERNEL
from keyholt_agent.keys.state_keys import StateKeys
from keyholt_agent.sealed_state import MODULUS, State
from keyholt_protocol.errors import IntegrityError, LockedError
from tests.agent.keys.builders import STORE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from keyholt_agent.memory import Arena, LockedBuffer
    from keyholt_agent.sealed_state import StateKeeper

ELEMENT_KEY, SEAL_KEY = bytes(range(32)), bytes(range(32, 64))
STATE = State(total=MODULUS // 3, commits=12345)
PATIENCE = 20.0
"""Seconds for a thread that has to come."""


def key(arena: Arena, content: bytes) -> LockedBuffer:
    """Known bytes in locked memory."""
    buffer = arena.allocate(len(content))
    buffer.view[:] = content
    return buffer


@pytest.fixture
def make(arena: Arena) -> Iterator[Callable[..., StateKeys]]:
    """Makes keys, which are released in the end."""
    made: list[StateKeys] = []

    def make(
        element: bytes = ELEMENT_KEY, sealing: bytes = SEAL_KEY, store: bytes = STORE, root: int = 1
    ) -> StateKeys:
        buffers = key(arena, element), key(arena, sealing)
        made.append(StateKeys(arena, store, *buffers, root_version=root, randomness=KERNEL))
        return made[-1]

    yield make
    for one in made:
        one.release()
        one.release()


@pytest.fixture
def keys(make: Callable[..., StateKeys]) -> StateKeys:
    """The keys of ``STORE``."""
    return make()


def element(row: bytes, element_key: bytes = ELEMENT_KEY) -> int:
    """A row's element, as hashlib works it out."""
    hashed = blake2b(row, digest_size=32, key=element_key)
    return int.from_bytes(hashed.digest(), "big")


def test_state_keys_are_a_state_keeper(keys: StateKeys) -> None:
    """By their types, as mypy sees it; and they show nothing of themselves."""
    keeper: StateKeeper = keys
    with keeper.in_use():
        assert keeper.add_up([]) == 0
    assert repr(keys) == "<StateKeys>"


# The fixtures hold nothing that an example changes.
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=1000), max_size=5))
def test_an_element_is_keyed_blake2b(keys: StateKeys, rows: list[bytes]) -> None:
    """Another library has the same of each row, and of many the sum, which is not reduced."""
    with keys.in_use():
        for row in rows:
            assert keys.add_up([row]) == element(row) < MODULUS
        assert keys.add_up(rows) == sum(map(element, rows))


def test_elements_are_of_one_key(make: Callable[..., StateKeys]) -> None:
    """Another has others; what seals, the store and the root's number have no part in them."""
    for keys, same in (
        (make(), True),
        (make(element=b"e" * 32), False),
        (make(sealing=b"s" * 32), True),
        (make(store=b"s" * 16), True),
        (make(root=2), True),
    ):
        with keys.in_use():
            assert (keys.add_up([b"row"]) == element(b"row")) == same


@pytest.mark.parametrize(
    "state", [State(0, 0), State(MODULUS - 1, 2**64 - 1), State(1, 0), State(0, 1), STATE], ids=repr
)
def test_what_was_sealed_is_opened(keys: StateKeys, state: State) -> None:
    """Up to the ends of both numbers; and no two records are the same."""
    with keys.in_use():
        one, two = keys.seal(state), keys.seal(state)
        assert one != two
        assert keys.open(one) == keys.open(two) == state


def test_the_record_that_is_opened_counts(keys: StateKeys) -> None:
    """Not the one that was sealed or opened before it."""
    with keys.in_use():
        one, two = keys.seal(State(1, 1)), keys.seal(State(2, 2))
        for record, state in ((two, State(2, 2)), (one, State(1, 1)), (two, State(2, 2))):
            assert keys.open(record) == state
            with pytest.raises(IntegrityError):
                keys.open(record[:-1] + bytes([record[-1] ^ 1]))
            assert keys.open(record) == state


def test_a_record_that_was_changed_is_refused(keys: StateKeys) -> None:
    """In any byte; cut short, made longer, or none at all. The record itself is opened (the control)."""
    with keys.in_use():
        record = keys.seal(STATE)
        changed = [
            record[:place] + bytes([record[place] ^ bit]) + record[place + 1 :]
            for place in range(len(record))
            for bit in (0x01, 0x80)
        ]
        for forged in (*changed, *(record[:size] for size in range(len(record))), record + b"\0"):
            with pytest.raises(IntegrityError):
                keys.open(forged)
        assert keys.open(record) == STATE


def test_another_s_record_is_refused(make: Callable[..., StateKeys]) -> None:
    """Of another store, key or root; that rows count otherwise shows in the sum alone."""
    keys = make()
    for other, opened in (
        (make(store=b"s" * 16), False),
        (make(sealing=b"s" * 32), False),
        (make(root=2), False),
        (make(element=b"e" * 32), True),
    ):
        with keys.in_use(), other.in_use():
            record = other.seal(STATE)
            if opened:
                assert keys.open(record) == STATE
            else:
                with pytest.raises(IntegrityError):
                    keys.open(record)


@pytest.mark.parametrize(
    "kind, place, size",
    [(RecordType.ROOT_KEY, "state", 40), (RecordType.STATE, "other", 40), (RecordType.STATE, "state", 32)],
)
def test_a_record_for_something_else_is_refused(
    arena: Arena, keys: StateKeys, kind: RecordType, place: str, size: int
) -> None:
    """Though the same key sealed it: of another type, for another place, of another length."""

    def sealed(kind: RecordType, place: str, size: int) -> bytes:
        header = header_under(key_reference(kind, b"keyholt.rootseal", 1), 0)
        with key(arena, bytes(size)) as plaintext, key(arena, SEAL_KEY) as seal_key:
            return seal(seal_key.view, header, bind(STORE, place), plaintext.view, bytes(12))

    with keys.in_use():
        assert keys.open(sealed(RecordType.STATE, "state", 40)) == State(0, 0)
        with pytest.raises(IntegrityError):
            keys.open(sealed(kind, place, size))


def test_released_keys_are_of_no_use(keys: StateKeys) -> None:
    """Again is harmless; nobody gets them any more."""
    keys.release()
    keys.release()
    with pytest.raises(LockedError), keys.in_use():
        pass


def test_the_memory_of_released_keys_is_zero(arena: Arena) -> None:
    """All of it, and given back; before that both keys are in it (the control)."""
    before = arena.usage.used
    buffers = key(arena, ELEMENT_KEY), key(arena, SEAL_KEY)
    addresses = [buffer.address for buffer in buffers]
    keys = StateKeys(arena, STORE, *buffers, root_version=1, randomness=KERNEL)
    with keys.in_use():
        record = keys.seal(STATE)
        assert keys.open(record) == STATE
        plaintext = keys._plaintext.address
        assert [ctypes.string_at(address, 32) for address in addresses] == [ELEMENT_KEY, SEAL_KEY]
        assert any(ctypes.string_at(plaintext, 40))
    keys.release()
    assert not any(b"".join(ctypes.string_at(address, 32) for address in (*addresses, plaintext)))
    assert arena.usage.used == before


@pytest.mark.parametrize("order", list(permutations(["one", "other", "release"])))
def test_keys_stay_until_nobody_uses_them(arena: Arena, order: tuple[str, ...]) -> None:
    """Given up while two threads have them, or one, or none: the last one out of three zeroes them."""
    buffers = key(arena, ELEMENT_KEY), key(arena, SEAL_KEY)
    addresses = [buffer.address for buffer in buffers]
    keys = StateKeys(arena, STORE, *buffers, root_version=1, randomness=KERNEL)
    users = {name: User(keys) for name in ("one", "other")}
    before = arena.usage.blocks
    for left, step in zip((2, 1, 0), order, strict=True):
        if step == "release":
            keys.release()
        else:
            users[step].end()
        assert [any(ctypes.string_at(address, 32)) for address in addresses] == [bool(left)] * 2
        assert arena.usage.blocks == (before if left else before - 3)
        if "release" in order[: 3 - left]:
            with pytest.raises(LockedError), keys.in_use():
                pass
        elif left:
            with keys.in_use():
                assert keys.add_up([b"row"]) == element(b"row")
    assert [user.sums for user in users.values()] == [{element(b"row")}] * 2


class User:
    """A thread that has keys in use, and adds up until it is to end."""

    def __init__(self, keys: StateKeys) -> None:
        self.sums: set[int] = set()
        self._keys = keys
        self._using, self._end = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._use)
        self._thread.start()
        assert self._using.wait(PATIENCE)

    def _use(self) -> None:
        with self._keys.in_use():
            self._using.set()
            assert self._end.wait(PATIENCE)
            self.sums.add(self._keys.add_up([b"row"]))

    def end(self) -> None:
        self._end.set()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
