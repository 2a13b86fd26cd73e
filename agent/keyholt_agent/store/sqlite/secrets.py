"""Answers to commands on single secrets: reading a version, writing one, tombstones, destruction.

What each answers and refuses stands with its command.

- Every function runs inside the caller's transaction and checks before it writes: one that raises a
  ``KeyholtError`` has changed nothing.
- No row is ever deleted here, and new rows go to the right edge of their tables (``schema`` says why).
"""

from __future__ import annotations

from sqlite3 import Connection
from typing import Final, NamedTuple

from keyholt_agent.store.commands import DeleteSecret, DestroyVersion, PutSecret, ReadSecret, UndeleteSecret
from keyholt_agent.store.errors import HeadMovedError
from keyholt_agent.store.rows import Head, SecretVersion
from keyholt_agent.store.sqlite import sql
from keyholt_protocol.errors import AlreadyExistsError, NotFoundError

__all__ = [
    "delete_secret",
    "destroy_version",
    "put_secret",
    "read_secret",
    "secret_row",
    "undelete_secret",
]

NEVER_WRITTEN: Final = Head(latest=0, deleted_at=None)


class SecretRow(NamedTuple):
    """A path's row."""

    id: int
    latest: int
    deleted_at: int | None

    @property
    def head(self) -> Head:
        return Head(latest=self.latest, deleted_at=self.deleted_at)


def read_secret(connection: Connection, asked: ReadSecret) -> SecretVersion | None:
    """Read the version that the head names, or the one that is named."""
    if asked.version is None:
        row = connection.execute(sql.LATEST, {"path": asked.path, "most": asked.most}).fetchone()
        if row is None:
            raise _never_error(asked.path)
        deleted_at, *stored = row
        if deleted_at is not None:
            raise _deleted_error(asked.path)
        return _version(*stored)
    secret = secret_row(connection, asked.path)
    if secret.deleted_at is not None:
        raise _deleted_error(asked.path)
    named = {"secret_id": secret.id, "version": asked.version, "most": asked.most}
    row = connection.execute(sql.NAMED, named).fetchone()
    if row is None:
        raise _no_version_error(asked.path, asked.version, secret.latest)
    return _version(*row)


def put_secret(connection: Connection, asked: PutSecret) -> SecretVersion:
    """Hold the version against the head, then advance that and add the version and its key."""
    new = asked.new
    secret = _maybe_secret_row(connection, asked.path)
    if secret is not None and asked.deleted is not None and asked.deleted is (secret.deleted_at is None):
        raise HeadMovedError(asked.path, secret.head)
    if new.version != (secret.latest if secret else 0) + 1:
        raise HeadMovedError(asked.path, secret.head if secret else NEVER_WRITTEN)
    named = {"key_id": new.master_key_id, "version": new.master_key_version}
    master = connection.execute(sql.MASTER, named).fetchone()
    if master is None:
        raise NotFoundError("there is no such master key version to put with")
    if secret is None:
        added = connection.execute(sql.ADD_SECRET, {"path": asked.path, "latest": new.version})
        secret_id = added.lastrowid
    else:
        secret_id = secret.id
        connection.execute(sql.ADVANCE, {"row": secret_id, "new_latest": new.version})
    values = {
        "secret_id": secret_id,
        "version": new.version,
        "created": new.created,
        "metadata": new.metadata,
        "value": new.value,
    }
    version_id = connection.execute(sql.ADD_VERSION, values).lastrowid
    key = {"id": version_id, "master_key": master[0], "wrapped_key": new.wrapped_key}
    connection.execute(sql.ADD_KEY, key)
    return SecretVersion(
        version=new.version, metadata=new.metadata, wrapped_key=new.wrapped_key, value=new.value
    )


def delete_secret(connection: Connection, asked: DeleteSecret) -> int:
    """Write down since when the path is deleted."""
    secret = secret_row(connection, asked.path)
    if secret.deleted_at is not None:
        raise _deleted_error(asked.path)
    connection.execute(sql.SET_DELETED, {"row": secret.id, "new_deleted_at": asked.deleted_at})
    return secret.latest


def undelete_secret(connection: Connection, asked: UndeleteSecret) -> int:
    """Write down that the path is not deleted."""
    secret = secret_row(connection, asked.path)
    if secret.deleted_at is None:
        raise AlreadyExistsError(f"the secret {asked.path!r} is not deleted")
    connection.execute(sql.SET_DELETED, {"row": secret.id, "new_deleted_at": None})
    return secret.latest


def destroy_version(connection: Connection, asked: DestroyVersion) -> None:
    """Overwrite the key where it stands, and drop the value."""
    secret = secret_row(connection, asked.path)
    named = {"secret_id": secret.id, "version": asked.version}
    version = connection.execute(sql.VERSION_ID, named).fetchone()
    if version is None:
        raise _no_version_error(asked.path, asked.version, secret.latest)
    connection.execute(sql.ERASE_KEY, {"row": version[0]})
    connection.execute(sql.ERASE_VALUE, {"row": version[0]})


def secret_row(connection: Connection, path: str) -> SecretRow:
    """A path's row; ``NotFoundError`` where there is none."""
    if (row := _maybe_secret_row(connection, path)) is None:
        raise _never_error(path)
    return row


def _maybe_secret_row(connection: Connection, path: str) -> SecretRow | None:
    row = connection.execute(sql.HEAD, {"path": path}).fetchone()
    return None if row is None else SecretRow(*row)


def _version(
    version: int, metadata: bytes, wrapped_key: bytes, size: int | None, value: bytes | None
) -> SecretVersion | None:
    if size is not None and value is None:
        return None  # larger than there is room for
    # A destroyed version has zeros for a wrapped key: nobody is to mistake them for one.
    kept = None if value is None else wrapped_key
    return SecretVersion(version=version, metadata=metadata, wrapped_key=kept, value=value)


def _never_error(path: str) -> NotFoundError:
    return NotFoundError(f"there is no secret {path!r}")


def _deleted_error(path: str) -> NotFoundError:
    return NotFoundError(f"the secret {path!r} was deleted: undelete it, or put a new version")


def _no_version_error(path: str, version: int, latest: int) -> NotFoundError:
    return NotFoundError(f"the secret {path!r} has no version {version}; its latest is {latest}")
