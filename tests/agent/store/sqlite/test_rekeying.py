"""Other keys in the place of those in force: refused without a trace, or wholly there; old ones nowhere."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from keyholt_agent.store import (
    AddKeyslot,
    AddMasterVersion,
    CountRetiringKeys,
    Cover,
    DeleteSecret,
    DestroyVersion,
    KeyState,
    MasterRetiredError,
    PutSecret,
    ReadMasterKeys,
    ReadSlotTable,
    ReadWrappedKeys,
    ReplaceRoot,
    RetireMasterVersion,
    RewrapKeys,
    SlotTableMovedError,
)
from keyholt_agent.store.commands import ReadSecret
from keyholt_protocol.errors import (
    ConflictError,
    ContentionError,
    KeyholtError,
    LockedError,
    NotFoundError,
)
from tests.agent.store.builders import (
    CREATED,
    MASTER,
    NEW_ROOT,
    Keeper,
    master,
    new_root,
    rekey,
    slot,
    unseal,
    unsealed,
    version,
)
from tests.agent.store.sqlite.behind import everything

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from typing import Any

    from keyholt_agent.store import WrappedKey
    from keyholt_agent.store.commands import AnyCommand
    from keyholt_agent.store.sqlite.backend import SqliteBackend

OTHER = b"another key's id"


def ask(backend: SqliteBackend, command: AnyCommand) -> Any:
    """What the backend answers to one command."""
    return backend.run([command])[0].unwrap()


def cover(backend: SqliteBackend, keeper: Keeper, most: int = 1000) -> None:
    """Have a keeper add up all rows."""
    while ask(backend, Cover(keeper=keeper, most=most)) is not None:
        pass


def replacement(backend: SqliteBackend, keeper: Keeper) -> ReplaceRoot:
    """The command that puts a keeper in force, for the keyslots and master keys of now."""
    table, masters = ask(backend, ReadSlotTable()), ask(backend, ReadMasterKeys())
    return new_root(keeper, table, masters, [slot("one"), slot("two")])


def wrapped(backend: SqliteBackend, number: int = 1, after: int = 0, most: int = 1000) -> list[WrappedKey]:
    """What a version of the master key wraps."""
    found: list[WrappedKey] = ask(
        backend, ReadWrappedKeys(key_id=MASTER, version=number, after=after, most=most)
    )
    return found


def states(backend: SqliteBackend) -> list[tuple[int, KeyState, bool]]:
    """Of each version of the master key ``default``: its number, its state, and whether it is retiring."""
    rows = ask(backend, ReadMasterKeys())
    return [(row.version, row.state, row.retiring) for row in rows if row.key_id == MASTER]


def anew(keys: Sequence[WrappedKey]) -> tuple[tuple[WrappedKey, bytes], ...]:
    """Each with other bytes of its length, but for what was destroyed."""
    return tuple((key, key.wrapped if key.destroyed else os.urandom(len(key.wrapped))) for key in keys)


@pytest.fixture
def backend(state: Path) -> Iterator[SqliteBackend]:
    """A backend with four secrets; the third is deleted, the first version of the fourth destroyed."""
    with unsealed(state) as backend:
        for path in "abcd":
            ask(backend, PutSecret(path=path, new=version(1)))
        ask(backend, DeleteSecret(path="c", deleted_at=CREATED))
        ask(backend, PutSecret(path="d", new=version(2)))
        ask(backend, DestroyVersion(path="d", version=1))
        yield backend


# A new root key.


def test_a_new_root_key_replaces_all_that_the_old_one_wrapped(backend: SqliteBackend) -> None:
    """Keyslots, their MAC, each version of a master key; what wrapped is to be rewrapped, data keys stay."""
    ask(backend, AddMasterVersion(row=master(1, key_id=OTHER, name="other")))
    ask(backend, RetireMasterVersion(key_id=OTHER, version=1))
    ask(backend, AddMasterVersion(row=master(2), retire=(MASTER, 1)))
    before = everything(backend)
    keeper = Keeper(NEW_ROOT)
    cover(backend, keeper)
    command = replacement(backend, keeper)
    ask(backend, command)
    table = ask(backend, ReadSlotTable())
    assert (table.mac, table.slots) == (command.mac, command.slots)
    rows = {(row.key_id, row.version): row for row in ask(backend, ReadMasterKeys())}
    assert {key: row.wrapped for key, row in rows.items() if row.version < 3} == command.wrapped
    assert states(backend) == [
        (1, KeyState.DECRYPT_ONLY, True),
        (2, KeyState.DECRYPT_ONLY, True),
        (3, KeyState.ACTIVE, False),
    ]
    assert (rows[OTHER, 1].state, rows[OTHER, 1].retiring) == (KeyState.DESTROYED, False)
    after = everything(backend)
    assert {table: after[table] for table in ("secret", "secret_version", "data_key")} == {
        table: before[table] for table in ("secret", "secret_version", "data_key")
    }
    unseal(backend, Keeper(NEW_ROOT))


def moved_slots(backend: SqliteBackend) -> None:
    """Another keyslot."""
    ask(backend, AddKeyslot(slot=slot("late"), mac=b"mac 1", expected_mac=b"mac 0"))


def moved_masters(backend: SqliteBackend) -> None:
    """Another version of the master key."""
    ask(backend, AddMasterVersion(row=master(2), retire=(MASTER, 1)))


@pytest.mark.parametrize("move", [moved_slots, moved_masters])
def test_worked_out_from_what_is_not_there_any_more(
    backend: SqliteBackend, move: Callable[[SqliteBackend], None]
) -> None:
    """It is refused and changes nothing; worked out anew it needs no rows added up again."""
    keeper = Keeper(NEW_ROOT)
    cover(backend, keeper)
    command = replacement(backend, keeper)
    move(backend)
    before = everything(backend)
    with pytest.raises(SlotTableMovedError):
        ask(backend, command)
    assert everything(backend) == before
    ask(backend, PutSecret(path="still", new=version(1, master=len(states(backend)))))
    ask(backend, replacement(backend, keeper))
    unseal(backend, keeper)


def test_one_that_forgets_a_master_key(backend: SqliteBackend) -> None:
    """Or wraps one that is not there: refused, or a version could never be opened again."""
    keeper = Keeper(NEW_ROOT)
    cover(backend, keeper)
    command = replacement(backend, keeper)
    before = everything(backend)
    for keys in ({}, {**command.wrapped, (MASTER, 2): b"one more"}, {(OTHER, 1): b"of another"}):
        with pytest.raises(SlotTableMovedError):
            ask(backend, replace(command, wrapped=keys))
    assert everything(backend) == before


@pytest.mark.parametrize("given_up", ["new", "old"])
def test_keys_that_were_given_up_meanwhile(backend: SqliteBackend, given_up: str) -> None:
    """Whoever locks before the transaction has it refused; nothing has changed."""
    old, new = Keeper(), Keeper(NEW_ROOT)
    unseal(backend, old)
    cover(backend, new)
    command = replacement(backend, new)
    before = everything(backend)
    (old if given_up == "old" else new).give_up()
    with pytest.raises(LockedError):
        ask(backend, command)
    assert everything(backend) == before
    assert not backend.faulty
    unseal(backend)


def test_after_it_nothing_is_written_below_the_old_master_key(backend: SqliteBackend) -> None:
    """What was wrapped before is refused, and by name."""
    rekey(backend, Keeper(NEW_ROOT), slot())
    before = everything(backend)
    late = [PutSecret(path="late", new=version(1)), PutSecret(path="a", new=version(2))]
    for outcome in backend.run(late):
        with pytest.raises(MasterRetiredError):
            outcome.unwrap()
    assert everything(backend) == before
    ask(backend, PutSecret(path="late", new=version(1, master=2)))
    assert [key.path for key in wrapped(backend, 2)] == ["late"]


def test_a_fault_between_has_it_begin_anew(backend: SqliteBackend) -> None:
    """What was added up beside something that may be written or not is worth nothing."""
    keeper = Keeper(NEW_ROOT)
    cover(backend, keeper)
    command = replacement(backend, keeper)
    backend._set_fault(OSError(5, "Input/output error"))
    backend.maintain()
    assert not backend.faulty
    before = everything(backend)
    with pytest.raises(ContentionError, match="try again"):
        ask(backend, command)
    assert everything(backend) == before
    assert ask(backend, Cover(keeper=keeper, most=1)) == 1
    with pytest.raises(ContentionError):  # it has begun, and not ended
        ask(backend, command)
    cover(backend, keeper)
    ask(backend, command)
    unseal(backend, keeper)


# Rewrapping.


def test_what_a_version_wraps_is_read_in_stretches(backend: SqliteBackend) -> None:
    """In the order of rows, each once, of deleted and destroyed versions too."""
    keys = wrapped(backend)
    assert [(key.path, key.version) for key in keys] == [("a", 1), ("b", 1), ("c", 1), ("d", 1), ("d", 2)]
    assert [key.destroyed for key in keys] == [False, False, False, True, False]
    for most in (1, 2, 3, 5, 6):
        found: list[WrappedKey] = []
        while stretch := wrapped(backend, after=found[-1].row if found else 0, most=most):
            assert len(stretch) <= most
            found += stretch
        assert found == keys
    with pytest.raises(NotFoundError):
        wrapped(backend, 2)


def test_only_what_is_to_be_rewrapped_counts(backend: SqliteBackend) -> None:
    """Not what was wrapped by a version that was used up, nor what the active one wraps."""
    assert ask(backend, CountRetiringKeys()) == 0
    ask(backend, AddMasterVersion(row=master(2), retire=(MASTER, 1)))
    assert ask(backend, CountRetiringKeys()) == 0
    rekey(backend, Keeper(NEW_ROOT), slot())
    assert ask(backend, CountRetiringKeys()) == 5
    ask(backend, PutSecret(path="new", new=version(1, master=3)))
    ask(backend, RewrapKeys(keys=anew(wrapped(backend)[:2]), key_id=MASTER, version=3))
    assert ask(backend, CountRetiringKeys()) == 3


def test_data_keys_are_rewrapped_where_they_stand(backend: SqliteBackend) -> None:
    """Only the wrap and who wrapped it are others."""
    rekey(backend, Keeper(NEW_ROOT), slot())
    before = everything(backend)
    keys = anew(wrapped(backend))
    assert ask(backend, RewrapKeys(keys=keys, key_id=MASTER, version=2)) == 5
    assert [(key.row, key.wrapped) for key in wrapped(backend, 2)] == [(key.row, new) for key, new in keys]
    assert wrapped(backend) == []
    after = everything(backend)
    for table in ("secret", "secret_version", "master_key", "keyslot"):
        assert after[table] == before[table]
    unseal(backend, Keeper(NEW_ROOT))


@pytest.mark.parametrize(
    "change",
    [
        lambda key: replace(key, wrapped=os.urandom(len(key.wrapped))),
        lambda key: replace(key, row=1000),
        lambda key: replace(key, row=-1),
    ],
)
def test_what_is_not_as_it_was_read_stays(
    backend: SqliteBackend, change: Callable[[WrappedKey], WrappedKey]
) -> None:
    """The others are rewrapped, and it is said how many they are."""
    rekey(backend, Keeper(NEW_ROOT), slot())
    before = wrapped(backend)
    keys = list(anew(before))
    keys[1] = (change(keys[1][0]), keys[1][1])
    keys[2] = (keys[2][0], keys[2][1] + b"x")  # of another length: it could not be overwritten in place
    assert ask(backend, RewrapKeys(keys=tuple(keys), key_id=MASTER, version=2)) == 3
    assert wrapped(backend) == [before[1], before[2]]
    unseal(backend, Keeper(NEW_ROOT))


def test_what_was_destroyed_since_it_was_read_stays_so(backend: SqliteBackend) -> None:
    """Its key is not brought back by one who has it still."""
    rekey(backend, Keeper(NEW_ROOT), slot())
    keys = anew(wrapped(backend))
    ask(backend, DestroyVersion(path="a", version=1))
    assert ask(backend, RewrapKeys(keys=keys, key_id=MASTER, version=2)) == 4
    (left,) = wrapped(backend)
    assert (left.path, left.destroyed) == ("a", True)
    assert ask(backend, ReadSecret(path="a", version=1)).destroyed


@pytest.mark.parametrize(
    "target, error",
    [((MASTER, 1), MasterRetiredError), ((MASTER, 9), NotFoundError), ((OTHER, 1), NotFoundError)],
)
def test_data_keys_are_rewrapped_by_an_active_version_only(
    backend: SqliteBackend, target: tuple[bytes, int], error: type[KeyholtError]
) -> None:
    """Of others, that are retired or not there, nothing is written."""
    rekey(backend, Keeper(NEW_ROOT), slot())
    before = everything(backend)
    with pytest.raises(error):
        ask(backend, RewrapKeys(keys=anew(wrapped(backend)), key_id=target[0], version=target[1]))
    assert everything(backend) == before


def test_a_version_is_destroyed_once_it_wraps_nothing(backend: SqliteBackend) -> None:
    """And no sooner, not even for a data key that was destroyed itself."""
    rekey(backend, Keeper(NEW_ROOT), slot())
    retire = RetireMasterVersion(key_id=MASTER, version=1)
    for left in (5, 1):
        ask(backend, RewrapKeys(keys=anew(wrapped(backend)[: 5 - left]), key_id=MASTER, version=2))
        before = everything(backend)
        with pytest.raises(ConflictError, match="still wraps"):
            ask(backend, retire)
        assert everything(backend) == before
    with pytest.raises(NotFoundError):
        ask(backend, replace(retire, version=9))
    ask(backend, RewrapKeys(keys=anew(wrapped(backend)), key_id=MASTER, version=2))
    ask(backend, retire)
    assert states(backend) == [(1, KeyState.DESTROYED, False), (2, KeyState.ACTIVE, False)]
    unseal(backend, Keeper(NEW_ROOT))


# What is left of the old keys.


def on_disk(state: Path) -> bytes:
    """Every byte of every file of the store."""
    return b"".join(path.read_bytes() for path in sorted(state.iterdir()))


@pytest.mark.parametrize("batch", [1, 7, 128])
def test_old_keys_are_in_no_file_once_all_is_rewrapped(state: Path, batch: int) -> None:
    """Roots and master keys when the change is answered; data keys when the old master key is destroyed."""
    chance = random.Random(batch)
    with unsealed(state) as backend:
        assert backend._database is not None
        backend._database.pragma("synchronous=OFF")  # for speed: what is written where does not depend on it
        for number in range(300):
            value = chance.randbytes(chance.choice([50, 300, 2000, 9000]))
            ask(backend, PutSecret(path=f"path/{number:03}", new=version(1, value=value)))
        gone: list[bytes] = []
        for generation in range(1, 4):
            slots = [entry.wrapped_root for entry in ask(backend, ReadSlotTable()).slots]
            masters = [row.wrapped for row in ask(backend, ReadMasterKeys()) if any(row.wrapped)]
            keys = [key.wrapped for key in wrapped(backend, generation)]
            disk = on_disk(state)
            assert all(old in disk for old in (*slots, *masters, *keys))  # the control
            rekey(backend, Keeper(b"%d" % generation), *(slot(name) for name in "abc"))
            disk = on_disk(state)
            assert [old for old in (*slots, *masters) if old in disk] == []
            retired = next(row for row in ask(backend, ReadMasterKeys()) if row.version == generation)
            assert retired.wrapped in disk
            while stretch := wrapped(backend, generation, most=batch):
                command = RewrapKeys(keys=anew(stretch), key_id=MASTER, version=generation + 1)
                assert ask(backend, command) == len(stretch)
                backend.maintain()
            ask(backend, RetireMasterVersion(key_id=MASTER, version=generation))
            disk = on_disk(state)
            gone += (*slots, *masters, *keys, retired.wrapped)
            assert [old for old in gone if old in disk] == []
            assert all(key.wrapped in disk for key in wrapped(backend, generation + 1))
    disk = on_disk(state)
    assert [old for old in gone if old in disk] == []


def test_before_that_old_keys_are_there(state: Path) -> None:
    """The control: in the store or in its log, until what erases them is asked for."""
    with unsealed(state) as backend:
        for path in "abc":
            ask(backend, PutSecret(path=path, new=version(1)))
        rekey(backend, Keeper(NEW_ROOT), slot())
        old = wrapped(backend)
        ask(backend, RewrapKeys(keys=anew(old), key_id=MASTER, version=2))
        assert all(key.wrapped in on_disk(state) for key in old)
        ask(backend, RetireMasterVersion(key_id=MASTER, version=1))
        assert not any(key.wrapped in on_disk(state) for key in old)
