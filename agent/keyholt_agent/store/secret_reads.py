"""SQL that reads secrets and their versions, set-wise where many callers ask at once.

- Every function runs inside the caller's transaction and writes nothing.
- ``read_secrets`` answers each request by itself: one that is refused hinders no other.
- What is to be bytes is read as bytes, whatever the file says that it is: a damaged row hinders no other.
- Statements are built once: SQLAlchemy's compiled cache then costs a look-up instead of a compilation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

from outcome import Error, Outcome, Value
from sqlalchemy import (
    Connection,
    CursorResult,
    LargeBinary,
    Row,
    bindparam,
    case,
    cast,
    func,
    select,
    tuple_,
)

from keyholt_agent.store.records import (
    Head,
    LargeVersion,
    SecretSummary,
    SecretVersion,
    VersionSummary,
)
from keyholt_agent.store.schema import data_key, secret, secret_version
from keyholt_protocol.errors import InternalError, NotFoundError

__all__ = [
    "NOTHING",
    "Counts",
    "SecretRow",
    "count_secrets",
    "deleted_error",
    "history",
    "last_ids",
    "list_secrets",
    "no_version_error",
    "read_heads",
    "read_secret",
    "read_secrets",
    "secret_row",
    "secret_rows",
]

Rows = CursorResult[*tuple[Any, ...]]

NOTHING: Final = Head(latest=0, deleted_at=None)
"""The head of a path that was never written."""

WHOLE: Final = 2**31
"""Bytes: more than SQLite holds in one value (sqlite.org/limits.html)."""

LISTING_BYTES: Final = 64 * 1024
"""Bytes of paths and metadata after which a listing ends, however many entries were asked for."""

LAST_CODE_POINT: Final = 0x10FFFF
SURROGATES: Final = range(0xD800, 0xE000)
"""Code points that no UTF-8 text contains."""

_HEADS: Final = select(secret.c.path, secret.c.id, secret.c.latest, secret.c.deleted_at).where(
    secret.c.path.in_(bindparam("paths", expanding=True))
)
_LAST_IDS: Final = select(
    select(func.max(secret.c.id)).scalar_subquery(), select(func.max(secret_version.c.id)).scalar_subquery()
)
_SIZE: Final = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
_COUNT_DELETED: Final = select(func.count()).select_from(secret).where(secret.c.deleted_at.is_not(None))
_METADATA: Final = cast(secret_version.c.metadata, LargeBinary)
_SIZE_OF_VALUE: Final = func.length(secret_version.c.value)
_RECORD: Final = (
    _METADATA,
    cast(data_key.c.wrapped_key, LargeBinary),
    _SIZE_OF_VALUE,
    case((bindparam("most") >= _SIZE_OF_VALUE, cast(secret_version.c.value, LargeBinary))),
)
_LATEST: Final = (
    select(secret.c.path, secret.c.deleted_at, secret_version.c.version, *_RECORD)
    .join(
        secret_version,
        (secret_version.c.secret_id == secret.c.id) & (secret_version.c.version == secret.c.latest),
    )
    .join(data_key, data_key.c.id == secret_version.c.id)
    .where(secret.c.path.in_(bindparam("paths", expanding=True)))
)
_NAMED: Final = (
    select(secret_version.c.secret_id, secret_version.c.version, *_RECORD)
    .join(data_key, data_key.c.id == secret_version.c.id)
    .where(
        tuple_(secret_version.c.secret_id, secret_version.c.version).in_(bindparam("pairs", expanding=True))
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Paths, the deleted ones among them, versions, and bytes of the store."""

    paths: int
    deleted: int
    versions: int
    size: int


@dataclass(frozen=True, slots=True)
class SecretRow:
    """A path's row."""

    id: int
    latest: int
    deleted_at: int | None

    @property
    def head(self) -> Head:
        return Head(latest=self.latest, deleted_at=self.deleted_at)


def read_secrets(
    connection: Connection, wanted: Sequence[tuple[str, int | None]], *, most: int = WHOLE
) -> list[Outcome[SecretVersion | LargeVersion]]:
    """Read versions, None for the latest; a deleted path is not found, whatever version is asked for.

    Args:
        most: bytes of a value; one that is larger is not read, and answered by ``LargeVersion``.
    """
    latest = _fetch_latest(connection, [path for path, version in wanted if version is None], most)
    named = _fetch_named(
        connection, [(path, version) for path, version in wanted if version is not None], most
    )
    # Each request gets an outcome of its own: an outcome can be unwrapped once only.
    return [
        latest.answer(path) if version is None else named.answer(path, version) for path, version in wanted
    ]


def read_secret(connection: Connection, path: str, version: int | None) -> SecretVersion:
    """One version, however large; what refuses it is raised."""
    record = read_secrets(connection, [(path, version)])[0].unwrap()
    if isinstance(record, LargeVersion):
        raise InternalError("a value is longer than SQLite can hold")
    return record


def read_heads(connection: Connection, paths: Sequence[str]) -> list[Head]:
    """Where each path stands; one that was never written stands at 0."""
    rows = secret_rows(connection, paths)
    return [rows[path].head if path in rows else NOTHING for path in paths]


def list_secrets(connection: Connection, prefix: str, after: str | None, limit: int) -> list[SecretSummary]:
    """Live secrets whose path starts with ``prefix`` and comes after ``after``, in code point order."""
    here = (secret_version.c.secret_id == secret.c.id) & (secret_version.c.version == secret.c.latest)
    # One lower bound: given two, SQLite seeks by the first of them and reads on to the second, and so each
    # page would cost more than the one before it.
    further = after is not None and after >= prefix
    statement = (
        select(cast(secret.c.path, LargeBinary), secret.c.latest, _METADATA)
        .join(secret_version, here)
        .where(secret.c.deleted_at.is_(None), secret.c.path > after if further else secret.c.path >= prefix)
        .order_by(secret.c.path)
        .limit(limit)
    )
    if (end := _after_prefix(prefix)) is not None:
        statement = statement.where(secret.c.path < end)
    return [
        SecretSummary(path=path.decode(errors="surrogateescape"), latest=latest, metadata=metadata)
        for path, latest, metadata in _some(connection.execute(statement))
    ]


def history(
    connection: Connection, path: str, before: int | None, limit: int
) -> tuple[Head, list[VersionSummary]]:
    """A path's head and its versions below ``before``, newest first; of a deleted path too."""
    row = secret_row(connection, path)
    statement = (
        select(secret_version.c.version, _METADATA, secret_version.c.value.is_(None))
        .where(secret_version.c.secret_id == row.id)
        .order_by(secret_version.c.version.desc())
        .limit(limit)
    )
    if before is not None:
        statement = statement.where(secret_version.c.version < before)
    return row.head, [
        VersionSummary(version=version, metadata=metadata, destroyed=bool(destroyed))
        for version, metadata, destroyed in _some(connection.execute(statement))
    ]


def count_secrets(connection: Connection) -> Counts:
    """How much there is; no row of a live secret is read for it."""
    paths, versions = last_ids(connection)
    deleted = connection.execute(_COUNT_DELETED).scalar_one()
    size = connection.exec_driver_sql(_SIZE).scalar_one()
    return Counts(paths=paths, deleted=deleted, versions=versions, size=size)


def last_ids(connection: Connection) -> tuple[int, int]:
    """The largest ids of ``secret`` and ``secret_version``, which are also their counts; 0 when empty."""
    last_secret, last_version = connection.execute(_LAST_IDS).one()
    return last_secret or 0, last_version or 0


def secret_rows(connection: Connection, paths: Iterable[str]) -> dict[str, SecretRow]:
    """The rows of those paths that have one."""
    found = connection.execute(_HEADS, {"paths": list(dict.fromkeys(paths))})
    return {path: SecretRow(id_, latest, deleted_at) for path, id_, latest, deleted_at in found}


def secret_row(connection: Connection, path: str) -> SecretRow:
    """A path's row; ``NotFoundError`` where there is none."""
    if (row := secret_rows(connection, [path]).get(path)) is None:
        raise _never_error(path)
    return row


def deleted_error(path: str) -> NotFoundError:
    """The path has a tombstone."""
    return NotFoundError(f"the secret {path!r} was deleted: undelete it, or put a new version")


def no_version_error(path: str, version: int, latest: int) -> NotFoundError:
    """The path was never written that often."""
    return NotFoundError(f"the secret {path!r} has no version {version}; its latest is {latest}")


def _never_error(path: str) -> NotFoundError:
    return NotFoundError(f"there is no secret {path!r}")


def _some(rows: Rows) -> Iterator[Row[*tuple[Any, ...]]]:
    """Rows up to and with the one that goes over ``LISTING_BYTES``, but two in any case."""
    room = LISTING_BYTES
    with closing(rows):
        for count, row in enumerate(rows):
            yield row
            room -= sum(len(part) for part in row if isinstance(part, bytes))
            if room < 0 and count:
                return


@dataclass(frozen=True, slots=True)
class _Latest:
    """What was found for requests for the latest version; None stands for a deleted path."""

    records: dict[str, SecretVersion | LargeVersion | None]

    def answer(self, path: str) -> Outcome[SecretVersion | LargeVersion]:
        try:
            record = self.records[path]
        except KeyError:
            return Error(_never_error(path))
        return Error(deleted_error(path)) if record is None else Value(record)


@dataclass(frozen=True, slots=True)
class _Named:
    """What was found for requests that name a version."""

    rows: dict[str, SecretRow]
    records: dict[tuple[int, int], SecretVersion | LargeVersion]

    def answer(self, path: str, version: int) -> Outcome[SecretVersion | LargeVersion]:
        row = self.rows.get(path)
        if row is None:
            return Error(_never_error(path))
        if row.deleted_at is not None:
            return Error(deleted_error(path))
        if (record := self.records.get((row.id, version))) is None:
            return Error(no_version_error(path, version, row.latest))
        return Value(record)


def _fetch_named(connection: Connection, wanted: Sequence[tuple[str, int]], most: int) -> _Named:
    if not wanted:
        return _Named({}, {})
    rows = secret_rows(connection, (path for path, _ in wanted))
    pairs = list({(row.id, version) for path, version in wanted if (row := rows.get(path)) is not None})
    found: Rows = connection.execute(_NAMED, {"pairs": pairs, "most": most})
    return _Named(rows, {(id_, record[0]): _version(*record) for id_, *record in found})


def _fetch_latest(connection: Connection, paths: Sequence[str], most: int) -> _Latest:
    if not paths:
        return _Latest({})
    found: Rows = connection.execute(_LATEST, {"paths": list(dict.fromkeys(paths)), "most": most})
    return _Latest(
        {path: _version(*record) if deleted_at is None else None for path, deleted_at, *record in found}
    )


def _version(
    version: int, metadata: bytes, wrapped_key: bytes, size: int | None, value: bytes | None
) -> SecretVersion | LargeVersion:
    if size is not None and value is None:
        return LargeVersion(version=version)
    # A destroyed version has zeros for a wrapped key: nobody is to mistake them for one.
    kept = None if value is None else wrapped_key
    return SecretVersion(version=version, metadata=metadata, wrapped_key=kept, value=value)


def _after_prefix(prefix: str) -> str | None:
    """The first text, in code point order, after all that start with ``prefix``; None if there is none."""
    while prefix:
        successor = ord(prefix[-1]) + 1
        prefix = prefix[:-1]
        if successor in SURROGATES:
            successor = SURROGATES.stop
        if successor <= LAST_CODE_POINT:
            return prefix + chr(successor)
    return None
