"""Answers to commands on single secrets: reading a version, writing one, tombstones, destruction.

What each answers and refuses stands with its command.

- Every function runs inside the caller's transaction and checks before it writes: one that raises a
  ``KeyholtError`` has changed nothing.
- No row is ever deleted here, and new rows go to the right edge of their tables (``schema`` says why).
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from keyholt_agent.store.commands import (
    DeleteSecret,
    DestroyVersion,
    PutSecret,
    ReadNewest,
    ReadSecret,
    UndeleteSecret,
)
from keyholt_agent.store.errors import HeadMovedError, MasterRetiredError
from keyholt_agent.store.rows import Head, Newest, SecretVersion
from keyholt_agent.store.sqlite import elements, sql
from keyholt_agent.store.sqlite.keys import maybe_master_row
from keyholt_agent.store.sqlite.transaction import Transaction, row_id
from keyholt_protocol.errors import AlreadyExistsError, IntegrityError, KeyholtError, NotFoundError

__all__ = [
    "SecretRow",
    "delete_secret",
    "destroy_version",
    "maybe_secret_row",
    "newest",
    "put_secret",
    "read_newest",
    "read_secret",
    "secret_row",
    "undelete_secret",
]

NEVER_WRITTEN: Final = Head(latest=0, deleted_at=None)

NO_VALUE: Final = -1
"""Fewer bytes than any value has: none is read."""


class SecretRow(NamedTuple):
    """A path's row, and its element."""

    id: int
    latest: int
    deleted_at: int | None
    element: bytes

    @property
    def head(self) -> Head:
        return Head(latest=self.latest, deleted_at=self.deleted_at)


def read_secret(transaction: Transaction, asked: ReadSecret) -> SecretVersion | None:
    """Read the version that the head names, or the one that is named."""
    if asked.version is None:
        row = transaction.execute(sql.LATEST, {"path": asked.path, "most": asked.most}).fetchone()
        if row is None:
            raise _never_error(asked.path)
        deleted_at, *stored = row
        if deleted_at is not None:
            raise _deleted_error(asked.path)
        return _version(*stored)
    secret = secret_row(transaction, asked.path)
    if secret.deleted_at is not None:
        raise _deleted_error(asked.path)
    named = {"secret_id": secret.id, "version": asked.version, "most": asked.most}
    row = transaction.execute(sql.NAMED, named).fetchone()
    if row is None:
        raise _no_version_error(asked.path, asked.version, secret.latest)
    return _version(*row)


def read_newest(transaction: Transaction, asked: ReadNewest) -> Newest:
    """Read the head, and the version that it names."""
    return newest(transaction, maybe_secret_row(transaction, asked.path))


def put_secret(transaction: Transaction, asked: PutSecret) -> SecretVersion:
    """Hold the version against the head, then advance that and add the version and its key."""
    new = asked.new
    secret = maybe_secret_row(transaction, asked.path)
    if secret is not None and asked.deleted is not None and asked.deleted is (secret.deleted_at is None):
        raise HeadMovedError(asked.path, newest(transaction, secret))
    if new.version != (secret.latest if secret else 0) + 1:
        raise HeadMovedError(asked.path, newest(transaction, secret))
    named = {"key_id": new.master_key_id, "version": new.master_key_version}
    active = transaction.execute(sql.ACTIVE_MASTER, named).fetchone()
    if active is None:
        raise _no_master_error(transaction, new.master_key_id, new.master_key_version)
    (master,) = active
    if secret is None:
        values: dict[str, Any] = {"path": asked.path, "latest": new.version}
        secret_id = row_id(transaction.execute(sql.ADD_SECRET, values))
    else:
        secret_id = secret.id
        # A tombstone is written only where there is one: what keeps track of them costs as much as the rest.
        advance = sql.ADVANCE if secret.deleted_at is None else sql.REVIVE
        transaction.execute(advance, {"row": secret_id, "new_latest": new.version})
        transaction.remove(secret.element)
    transaction.add(elements.head((secret_id, asked.path.encode(), new.version, None)))
    values = {
        "secret_id": secret_id,
        "version": new.version,
        "created": new.created,
        "metadata": new.metadata,
        "value": new.value,
    }
    version_id = row_id(transaction.execute(sql.ADD_VERSION, values))
    key = {"id": version_id, "master_key": master, "wrapped_key": new.wrapped_key}
    transaction.execute(sql.ADD_KEY, key)
    added = (version_id, secret_id, new.version, new.created, master, 0, new.metadata, new.wrapped_key)
    transaction.add(elements.version(added))
    return SecretVersion(
        version=new.version, metadata=new.metadata, wrapped_key=new.wrapped_key, value=new.value
    )


def delete_secret(transaction: Transaction, asked: DeleteSecret) -> int:
    """Write down since when the path is deleted."""
    secret = secret_row(transaction, asked.path)
    if secret.deleted_at is not None:
        raise _deleted_error(asked.path)
    _set_deleted(transaction, asked.path, secret, asked.deleted_at)
    return secret.latest


def undelete_secret(transaction: Transaction, asked: UndeleteSecret) -> int:
    """Write down that the path is not deleted."""
    secret = secret_row(transaction, asked.path)
    if secret.deleted_at is None:
        raise AlreadyExistsError(f"the secret {asked.path!r} is not deleted")
    _set_deleted(transaction, asked.path, secret, None)
    return secret.latest


def destroy_version(transaction: Transaction, asked: DestroyVersion) -> None:
    """Overwrite the key where it stands, and drop the value."""
    secret = secret_row(transaction, asked.path)
    named = {"secret_id": secret.id, "version": asked.version}
    version = transaction.execute(sql.VERSION_ROW, named).fetchone()
    if version is None:
        raise _no_version_error(asked.path, asked.version, secret.latest)
    row, *others, _, metadata, wrapped_key = version
    transaction.execute(sql.ERASE_KEY, {"row": row})
    transaction.execute(sql.ERASE_VALUE, {"row": row})
    transaction.remove(elements.version(version))
    transaction.add(elements.version((row, *others, 1, metadata, bytes(len(wrapped_key)))))


def _set_deleted(transaction: Transaction, path: str, secret: SecretRow, deleted_at: int | None) -> None:
    transaction.execute(sql.SET_DELETED, {"row": secret.id, "new_deleted_at": deleted_at})
    transaction.remove(secret.element)
    transaction.add(elements.head((secret.id, path.encode(), secret.latest, deleted_at)))


def secret_row(transaction: Transaction, path: str) -> SecretRow:
    """A path's row; ``NotFoundError`` where there is none."""
    if (row := maybe_secret_row(transaction, path)) is None:
        raise _never_error(path)
    return row


def maybe_secret_row(transaction: Transaction, path: str) -> SecretRow | None:
    """A path's row, if there is one."""
    row = transaction.execute(sql.HEAD, {"path": path}).fetchone()
    if row is None:
        return None
    row_id, latest, deleted_at = row
    # Nobody has looked at the row before its element is made of it.
    element = elements.head((row_id, path.encode(), latest, deleted_at))
    return SecretRow(row_id, latest, deleted_at, element)


def newest(transaction: Transaction, secret: SecretRow | None) -> Newest:
    """Where a path stands, and its latest version without the value."""
    if secret is None:
        return Newest(head=NEVER_WRITTEN, metadata=None, wrapped_key=None)
    named = {"secret_id": secret.id, "version": secret.latest, "most": NO_VALUE}
    row = transaction.execute(sql.NAMED, named).fetchone()
    if row is None:
        raise IntegrityError("a row of the store is missing: restore a backup")
    _, metadata, wrapped_key, size, _ = row
    return Newest(head=secret.head, metadata=metadata, wrapped_key=None if size is None else wrapped_key)


def _version(
    version: int, metadata: bytes, wrapped_key: bytes, size: int | None, value: bytes | None
) -> SecretVersion | None:
    if size is not None and value is None:
        return None  # larger than there is room for
    # A destroyed version has zeros for a wrapped key: nobody is to mistake them for one.
    kept = None if value is None else wrapped_key
    return SecretVersion(version=version, metadata=metadata, wrapped_key=kept, value=value)


def _no_master_error(transaction: Transaction, key_id: bytes, version: int) -> KeyholtError:
    """Why there is no such active version of a master key."""
    row = maybe_master_row(transaction, key_id, version)
    if row is None:
        return NotFoundError("there is no such master key version to put with")
    return MasterRetiredError("the master key was replaced meanwhile; try again")


def _never_error(path: str) -> NotFoundError:
    return NotFoundError(f"there is no secret {path!r}")


def _deleted_error(path: str) -> NotFoundError:
    return NotFoundError(f"the secret {path!r} was deleted: undelete it, or put a new version")


def _no_version_error(path: str, version: int, latest: int) -> NotFoundError:
    return NotFoundError(f"the secret {path!r} has no version {version}; its latest is {latest}")
