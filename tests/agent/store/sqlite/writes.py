"""One write of each kind, a store on which each succeeds, and whether its rows come to what is sealed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from keyholt_agent.sealed_state import MODULUS
from keyholt_agent.store import (
    AddKeyslot,
    AddMasterVersion,
    CopySecret,
    CountWraps,
    Cover,
    DeleteSecret,
    DestroyVersion,
    MoveSecret,
    PurgeSecret,
    PutSecret,
    ReadMasterKeys,
    ReadSlotTable,
    ReadWrappedKeys,
    RetireMasterVersion,
    RewrapKeys,
    UndeleteSecret,
)
from tests.agent.store.builders import (
    CREATED,
    MASTER,
    Keeper,
    master,
    new_root,
    portions,
    resealed,
    slot,
    unsealed,
    version,
)
from tests.agent.store.sqlite.behind import sealed_record

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from keyholt_agent.store.commands import AnyCommand
    from keyholt_agent.store.sqlite.backend import SqliteBackend

__all__ = ["WRITES", "adds_up", "new_root_of", "prepare", "rewrapping"]

OTHER: Final = b"another key's id"


def adds_up(backend: SqliteBackend, keeper: Keeper, most: int = 1000) -> bool:
    """Whether the rows come to what is sealed; changes nothing about whose keys are in force."""
    total = sum(part.total for part in portions(backend, keeper, most))
    with keeper.in_use():
        return keeper.open(sealed_record(backend)).total == total % MODULUS


def rewrapping(backend: SqliteBackend, key_id: bytes, number: int, active: int) -> RewrapKeys:
    """The command that rewraps what a version wraps."""
    asked = ReadWrappedKeys(key_id=key_id, version=number, after=0, most=100)
    keys = backend.run([asked])[0].unwrap()
    wrapped = tuple((key, bytes(byte ^ 1 for byte in key.wrapped)) for key in keys if not key.destroyed)
    return RewrapKeys(keys=wrapped, key_id=key_id, version=active)


def prepare(state: Path) -> None:
    """Put two secrets, one of which is deleted, and versions of two master keys into a new store."""
    with unsealed(state) as backend:
        for command in (
            PutSecret(path="a", new=version(1)),
            PutSecret(path="b", new=version(1)),
            DeleteSecret(path="b", deleted_at=CREATED),
            AddMasterVersion(row=master(1, key_id=OTHER, name="other")),
            AddMasterVersion(row=master(2, key_id=OTHER, name="other"), retire=(OTHER, 1)),
        ):
            backend.run([command])[0].unwrap()


def new_root_of(backend: SqliteBackend, keeper: Keeper) -> AnyCommand:
    """The command that puts a keeper in force, which has added up all rows."""
    while backend.run([Cover(keeper=keeper, most=1)])[0].unwrap() is not None:
        pass
    table, masters = (outcome.unwrap() for outcome in backend.run([ReadSlotTable(), ReadMasterKeys()]))
    return new_root(keeper, table, masters, [slot("one"), slot("two")])


WRITES: Final[dict[str, Callable[[SqliteBackend], AnyCommand]]] = {
    "put": lambda _: PutSecret(path="new", new=version(1)),
    "put again": lambda _: PutSecret(path="a", new=version(2)),
    "put deleted": lambda _: PutSecret(path="b", new=version(2)),
    "delete": lambda _: DeleteSecret(path="a", deleted_at=CREATED),
    "undelete": lambda _: UndeleteSecret(path="b"),
    "destroy": lambda _: DestroyVersion(path="a", version=1),
    "move": lambda _: MoveSecret(path="a", to="c", reseal=resealed),
    "move deleted": lambda _: MoveSecret(path="b", to="c", reseal=resealed),
    "copy": lambda _: CopySecret(path="a", to="c", reseal=resealed),
    "copy deleted": lambda _: CopySecret(path="b", to="c", reseal=resealed),
    "purge": lambda _: PurgeSecret(path="a"),
    "purge deleted": lambda _: PurgeSecret(path="b"),
    "count wraps": lambda _: CountWraps(key_id=MASTER, version=1, count=1, limit=1000),
    "add a master key": lambda _: AddMasterVersion(row=master(1, key_id=b"a third key's id", name="third")),
    "rotate": lambda _: AddMasterVersion(row=master(2), retire=(MASTER, 1)),
    "add a keyslot": lambda _: AddKeyslot(slot=slot("other"), mac=b"mac 1", expected_mac=b"mac 0"),
    "rewrap": lambda backend: rewrapping(backend, MASTER, 1, active=1),
    "retire": lambda _: RetireMasterVersion(key_id=OTHER, version=1),
    "new root": lambda backend: new_root_of(backend, Keeper()),
}
"""Each kind of write; all succeed on a store that was prepared."""
