"""Answers to commands on a path with all its versions: another name, a copy, erasure.

What each answers and refuses stands with its command.

- Every function runs inside the caller's transaction. A move or a copy that raises midway has written
  already: its transaction is its own, and is rolled back (``commands.Kind``).
- One version at a time is read, sealed anew and written: what is in memory does not grow with the history.
- No row is deleted (``schema`` says why). What is purged stays as rows that say nothing: zeroes, and a path
  that nobody can ask for. They count as deleted.
- A wrapped data key is overwritten where it stands, by one of the same length (``schema`` again).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from keyholt_agent.store.errors import HeadMovedError, MasterRetiredError
from keyholt_agent.store.rows import Resealed, SecretVersion
from keyholt_agent.store.sqlite import elements, sql
from keyholt_agent.store.sqlite.columns import LARGEST
from keyholt_agent.store.sqlite.database import OWE_REBUILD
from keyholt_agent.store.sqlite.secrets import SecretRow, maybe_secret_row, newest, secret_row
from keyholt_agent.store.sqlite.transaction import Transaction, row_id
from keyholt_protocol.errors import AlreadyExistsError, IntegrityError, TooLargeError

if TYPE_CHECKING:
    from keyholt_agent.store.path_commands import CopySecret, MoveSecret, PurgeSecret, Reseal

__all__ = ["PURGED", "copy_secret", "move_secret", "purge_secret"]

PURGED: Final = "\U0010ffff"
"""How the path of a purged row begins: with a character that no path may have, behind all that it may."""

MOST_SEALED: Final = 256 * 1024 * 1024
"""Bytes of sealed values that go along: others wait while so much is read and written, some seconds of a
disk. Sixteen of the largest values."""


class VersionRow(NamedTuple):
    """A version's row as its element has it."""

    id: int
    secret_id: int
    version: int
    created: int
    master_key: int
    destroyed: int
    metadata: bytes
    wrapped_key: bytes

    @property
    def element(self) -> bytes:
        return elements.version(self)


def move_secret(transaction: Transaction, asked: MoveSecret) -> int:
    """Rename the row of the path, and replace key and value of each version where they stand."""
    secret = secret_row(transaction, asked.path)
    _require_free(transaction, asked.to)
    _require_size(transaction, asked.path, secret)
    _rename(transaction, secret, asked.to, deleted_at=secret.deleted_at)
    for before in _versions(transaction, secret):
        if before.destroyed:
            continue  # nothing of it is bound to the path
        sealed = asked.reseal(_stored(transaction, before))
        after = before._replace(master_key=_active(transaction, sealed), wrapped_key=_fitting(sealed, before))
        key = {"row": after.id, "new_master": after.master_key, "new_wrapped": after.wrapped_key}
        transaction.execute(sql.REWRAP, key)
        transaction.execute(sql.REPLACE_VALUE, {"row": after.id, "new_value": sealed.value})
        transaction.remove(before.element)
        transaction.add(after.element)
    return secret.latest


def copy_secret(transaction: Transaction, asked: CopySecret) -> int:
    """Add a row for the path, and rows for each version."""
    secret = secret_row(transaction, asked.path)
    _require_free(transaction, asked.to)
    _require_size(transaction, asked.path, secret)
    values: dict[str, Any] = {"path": asked.to, "latest": secret.latest}
    added = row_id(transaction.execute(sql.ADD_SECRET, values))
    if secret.deleted_at is not None:
        transaction.execute(sql.SET_DELETED, {"row": added, "new_deleted_at": secret.deleted_at})
    transaction.add(elements.head((added, asked.to.encode(), secret.latest, secret.deleted_at)))
    for original in _versions(transaction, secret):
        _copy_version(transaction, original, added, asked.reseal)
    return secret.latest


def purge_secret(transaction: Transaction, asked: PurgeSecret) -> int:
    """Overwrite all that rows say of the path, and note that pages may say it still."""
    secret = secret_row(transaction, asked.path)
    if asked.latest is not None and asked.latest != secret.latest:
        raise HeadMovedError(asked.path, newest(transaction, secret))
    for before in _versions(transaction, secret):
        transaction.remove(before.element)  # before its columns are relied on: a forged one has none
        transaction.execute(sql.ERASE_KEY, {"row": before.id})
        transaction.execute(sql.FORGET_VERSION, {"row": before.id})
        metadata, wrapped_key = bytes(len(before.metadata)), bytes(len(before.wrapped_key))
        after = before._replace(created=0, destroyed=1, metadata=metadata, wrapped_key=wrapped_key)
        transaction.add(after.element)
    transaction.execute(sql.SET_DELETED, {"row": secret.id, "new_deleted_at": 0})
    _rename(transaction, secret, f"{PURGED}{secret.id}", deleted_at=0)
    transaction.execute(OWE_REBUILD)
    return secret.latest


def _rename(transaction: Transaction, before: SecretRow, to: str, *, deleted_at: int | None) -> None:
    transaction.execute(sql.RENAME, {"row": before.id, "new_path": to})
    transaction.remove(before.element)
    transaction.add(elements.head((before.id, to.encode(), before.latest, deleted_at)))


def _copy_version(transaction: Transaction, original: VersionRow, secret_id: int, reseal: Reseal) -> None:
    value: bytes | None = None
    copy = original._replace(secret_id=secret_id)
    if not original.destroyed:
        sealed = reseal(_stored(transaction, original))
        value = sealed.value
        copy = copy._replace(master_key=_active(transaction, sealed), wrapped_key=_fitting(sealed, original))
    values: dict[str, Any] = {
        "secret_id": secret_id,
        "version": copy.version,
        "created": copy.created,
        "metadata": copy.metadata,
        "value": value,
    }
    copy = copy._replace(id=row_id(transaction.execute(sql.ADD_VERSION, values)))
    key = {"id": copy.id, "master_key": copy.master_key, "wrapped_key": copy.wrapped_key}
    transaction.execute(sql.ADD_KEY, key)
    transaction.add(copy.element)


def _versions(transaction: Transaction, secret: SecretRow) -> Iterator[VersionRow]:
    """Every version of a path, from the first to the latest; there are no gaps."""
    for number in range(1, secret.latest + 1):
        named = {"secret_id": secret.id, "version": number}
        row = transaction.execute(sql.VERSION_ROW, named).fetchone()
        if row is None:
            raise IntegrityError("a version of a secret is missing: restore a backup")
        yield VersionRow(*row)


def _stored(transaction: Transaction, row: VersionRow) -> SecretVersion:
    named = {"secret_id": row.secret_id, "version": row.version, "most": LARGEST}
    version, metadata, wrapped_key, _, value = transaction.execute(sql.NAMED, named).fetchone()
    return SecretVersion(version=version, metadata=metadata, wrapped_key=wrapped_key, value=value)


def _active(transaction: Transaction, sealed: Resealed) -> int:
    """The row of the master key version that has wrapped, which has to be the active one."""
    named = {"key_id": sealed.master_key_id, "version": sealed.master_key_version}
    active = transaction.execute(sql.ACTIVE_MASTER, named).fetchone()
    if active is None:
        raise MasterRetiredError("the master key was replaced meanwhile; try again")
    return int(active[0])


def _fitting(sealed: Resealed, before: VersionRow) -> bytes:
    """The wrapped key, which is as long as every other."""
    if len(sealed.wrapped_key) != len(before.wrapped_key):
        raise IntegrityError("a wrapped key of the store is damaged: restore a backup")
    return sealed.wrapped_key


def _require_free(transaction: Transaction, path: str) -> None:
    row = maybe_secret_row(transaction, path)
    if row is not None:
        state = "a secret" if row.deleted_at is None else "a deleted secret"
        raise AlreadyExistsError(f"there is {state} at {path!r}: choose another path, or purge that first")


def _require_size(transaction: Transaction, path: str, secret: SecretRow) -> None:
    (size,) = transaction.execute(sql.SEALED_SIZE, {"secret_id": secret.id}).fetchone()
    if size is not None and size > MOST_SEALED:
        raise TooLargeError(
            f"the versions of {path!r} are {size} bytes long together; no more than {MOST_SEALED} can be "
            "moved or copied: destroy old versions, or put the newest value at the other path",
            details={"field": "path", "limit": MOST_SEALED},
        )
