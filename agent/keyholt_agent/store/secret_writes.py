"""SQL that writes secrets: versions put set-wise, tombstones, destruction.

- Every function runs inside the caller's transaction and checks before it writes: one that raises a
  ``KeyholtError`` has changed nothing. ``put_secrets`` answers each request by itself.
- No row is ever deleted here, and new rows go to the right edge of their tables (``schema`` says why).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from outcome import Error, Outcome, Value
from sqlalchemy import Connection, Dialect, Insert, Update, bindparam, func, insert, null, select, update

from keyholt_agent.store.errors import HeadMovedError
from keyholt_agent.store.key_rows import master_key_rowids
from keyholt_agent.store.records import NewVersion, SecretVersion
from keyholt_agent.store.schema import data_key, secret, secret_version
from keyholt_agent.store.secret_reads import (
    NOTHING,
    SecretRow,
    deleted_error,
    last_ids,
    no_version_error,
    secret_row,
    secret_rows,
)
from keyholt_protocol.errors import AlreadyExistsError, InternalError, NotFoundError

__all__ = ["Put", "delete_secret", "destroy_version", "put_secrets", "undelete_secret"]


class _ManyRows:
    """A statement that is run for many rows at once: compiled once, its rows given to the driver as they are.

    SQLAlchemy's own way costs 15 to 20 us a row, more than SQLite takes (measured).

    Args:
        statement: with a parameter for each of ``names``.
        names: of the values of a row, in their order.
    """

    def __init__(self, statement: Insert | Update, *names: str) -> None:
        self._statement = statement
        self._names = names
        self._sql: dict[str, str] = {}

    def run(self, connection: Connection, rows: list[tuple[object, ...]]) -> None:
        if rows:
            dialect = connection.dialect
            sql = self._sql.get(dialect.name) or self._compile(dialect)
            connection.exec_driver_sql(sql, rows)

    def _compile(self, dialect: Dialect) -> str:
        compiled = self._statement.compile(dialect=dialect, column_keys=list(self._names))
        if (order := getattr(compiled, "positiontup", None)) != list(self._names):
            raise InternalError(f"the parameters of a statement stand as {order}, not as {self._names}")
        return self._sql.setdefault(dialect.name, str(compiled))


_ADD_SECRET: Final = _ManyRows(insert(secret), "id", "path", "latest", "deleted_at")
_ADD_VERSION: Final = _ManyRows(
    insert(secret_version), "id", "secret_id", "version", "created", "metadata", "value"
)
_ADD_KEY: Final = _ManyRows(insert(data_key), "id", "master_key", "wrapped_key")
_ADVANCE: Final = _ManyRows(
    update(secret)
    .where(secret.c.id == bindparam("row"))
    .values(latest=bindparam("new_latest"), deleted_at=null()),
    *("new_latest", "row"),
)


class Put(NamedTuple):
    """A version to write, and whether the path, if there is one, has to be deleted; None for either."""

    path: str
    new: NewVersion
    deleted: bool | None = None


def put_secrets(connection: Connection, puts: Sequence[Put]) -> list[Outcome[SecretVersion]]:
    """Write versions, in order; each succeeds if it is the next of its path, else ``HeadMovedError``."""
    rows = secret_rows(connection, (put.path for put in puts))
    wanted = {(put.new.master_key_id, put.new.master_key_version) for put in puts}
    masters = master_key_rowids(connection, wanted)
    additions = _Additions(*last_ids(connection))
    outcomes: list[Outcome[SecretVersion]] = []
    for path, new, deleted in puts:
        row = rows.get(path)
        master = masters.get((new.master_key_id, new.master_key_version))
        moved = row is not None and deleted is not None and deleted is (row.deleted_at is None)
        if moved or new.version != (row.latest if row else 0) + 1:
            outcomes.append(Error(HeadMovedError(path, row.head if row else NOTHING)))
        elif master is None:
            outcomes.append(Error(NotFoundError("there is no such master key version to put with")))
        else:
            rows[path] = additions.add(path, row, new, master)
            outcomes.append(Value(_written(new)))
    additions.write(connection)
    return outcomes


def delete_secret(connection: Connection, path: str, deleted_at: int) -> int:
    """Put a tombstone on a live path; its versions stay. Returns the latest version."""
    row = secret_row(connection, path)
    if row.deleted_at is not None:
        raise deleted_error(path)
    connection.execute(update(secret).where(secret.c.id == row.id).values(deleted_at=deleted_at))
    return row.latest


def undelete_secret(connection: Connection, path: str) -> int:
    """Take the tombstone away. Returns the latest version, which is in force again."""
    row = secret_row(connection, path)
    if row.deleted_at is None:
        raise AlreadyExistsError(f"the secret {path!r} is not deleted")
    connection.execute(update(secret).where(secret.c.id == row.id).values(deleted_at=None))
    return row.latest


def destroy_version(connection: Connection, path: str, version: int) -> None:
    """Overwrite a version's wrapped data key and drop its value; again is no error."""
    row = secret_row(connection, path)
    where = (secret_version.c.secret_id == row.id) & (secret_version.c.version == version)
    version_id = connection.execute(select(secret_version.c.id).where(where)).scalar()
    if version_id is None:
        raise no_version_error(path, version, row.latest)
    # Zeros of the same length: SQLite then overwrites the cell where it is, and moves none.
    zeros = func.zeroblob(func.length(data_key.c.wrapped_key))
    connection.execute(update(data_key).where(data_key.c.id == version_id).values(wrapped_key=zeros))
    connection.execute(update(secret_version).where(secret_version.c.id == version_id).values(value=None))


def _written(new: NewVersion) -> SecretVersion:
    return SecretVersion(
        version=new.version, metadata=new.metadata, wrapped_key=new.wrapped_key, value=new.value
    )


class _Additions:
    """The rows that a batch of writes comes to, in the order of their ids."""

    def __init__(self, last_secret: int, last_version: int) -> None:
        self._last_secret = last_secret
        self._last_version = last_version
        self._secrets: dict[int, str] = {}
        self._latest: dict[int, int] = {}
        self._versions: list[tuple[object, ...]] = []
        self._keys: list[tuple[object, ...]] = []

    def add(self, path: str, row: SecretRow | None, new: NewVersion, master: int) -> SecretRow:
        if row is None:
            self._last_secret += 1
            row = SecretRow(self._last_secret, 0, None)
            self._secrets[row.id] = path
        self._latest[row.id] = new.version
        self._add_version(row.id, new, master)
        return SecretRow(row.id, new.version, None)

    def write(self, connection: Connection) -> None:
        latest, added = self._latest, self._secrets
        _ADD_SECRET.run(connection, [(id_, path, latest[id_], None) for id_, path in added.items()])
        _ADVANCE.run(connection, [(version, id_) for id_, version in latest.items() if id_ not in added])
        _ADD_VERSION.run(connection, self._versions)
        _ADD_KEY.run(connection, self._keys)

    def _add_version(self, secret_id: int, new: NewVersion, master: int) -> None:
        self._last_version += 1
        id_ = self._last_version
        self._versions.append((id_, secret_id, new.version, new.created, new.metadata, new.value))
        self._keys.append((id_, master, new.wrapped_key))
