"""Answers to commands on many rows: pages of secrets and of versions, and counts.

What each answers and refuses stands with its command.

- Every function runs inside the caller's transaction and writes nothing.
- A page costs what it holds, wherever it lies, and a bounded number of tombstones; counting reads no row of a
  live secret.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from sqlite3 import Cursor
from typing import Any, Final

from keyholt_agent.store.commands import CountSecrets, ListSecrets, ReadHistory
from keyholt_agent.store.rows import Counts, Head, SecretPage, SecretSummary, VersionSummary
from keyholt_agent.store.sqlite import sql
from keyholt_agent.store.sqlite.paths import PURGED
from keyholt_agent.store.sqlite.secrets import secret_row
from keyholt_agent.store.sqlite.transaction import Transaction

__all__ = ["count_secrets", "list_secrets", "read_history"]

LISTING_BYTES: Final = 64 * 1024
"""Bytes of paths and metadata after which a page ends, however many entries were asked for."""

SCANNED: Final = 1024
"""Rows that a page reads at most, tombstones and all: about 4 ms."""

ABOVE_ALL: Final = 2**63 - 1
"""More than any version's number: the largest integer that SQLite knows."""

LAST_CODE_POINT: Final = 0x10FFFF
SURROGATES: Final = range(0xD800, 0xE000)
"""Code points that no UTF-8 text contains."""


def list_secrets(transaction: Transaction, asked: ListSecrets) -> SecretPage:
    """Read on from the first path that belongs to the page."""
    # The least text after ``after`` is ``after`` and a zero.
    first = asked.prefix if asked.after is None else max(asked.prefix, asked.after + "\0")
    values = {"first": first, "end": _after_prefix(asked.prefix) or PURGED, "limit": SCANNED}
    found: list[SecretSummary] = []
    scanned, room, text = 0, LISTING_BYTES, ""
    with closing(transaction.execute(sql.LISTING, values)) as rows:
        for path, latest, metadata, destroyed, deleted in rows:
            scanned += 1
            text = path.decode(errors="surrogateescape")
            if deleted:
                continue
            found.append(
                SecretSummary(path=text, latest=latest, metadata=metadata, destroyed=bool(destroyed))
            )
            room -= len(path) + len(metadata)
            if len(found) == asked.limit or (room < 0 and len(found) > 1):
                break
    return SecretPage(secrets=found, scanned_to=text if scanned == SCANNED else None)


def read_history(transaction: Transaction, asked: ReadHistory) -> tuple[Head, list[VersionSummary]]:
    """Read down from the last version that belongs to the page."""
    secret = secret_row(transaction, asked.path)
    before = ABOVE_ALL if asked.before is None else asked.before
    values = {"secret_id": secret.id, "before": before, "limit": asked.limit}
    return secret.head, [
        VersionSummary(version=version, metadata=metadata, destroyed=bool(destroyed))
        for version, metadata, destroyed in _some(transaction.execute(sql.HISTORY, values))
    ]


def count_secrets(transaction: Transaction, _: CountSecrets) -> Counts:
    """Take the largest ids for counts (``schema``), and count the tombstones."""
    paths, versions = transaction.execute(sql.LAST_IDS).fetchone()
    (deleted,) = transaction.execute(sql.COUNT_DELETED).fetchone()
    (pages,), (page_size,) = (
        transaction.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "page_size")
    )
    return Counts(paths=paths or 0, deleted=deleted, versions=versions or 0, size=pages * page_size)


def _some(rows: Cursor) -> Iterator[tuple[Any, ...]]:
    """Rows up to and with the one that goes over ``LISTING_BYTES``, but two in any case."""
    room = LISTING_BYTES
    with closing(rows):
        for count, row in enumerate(rows):
            yield row
            for part in row:
                if type(part) is bytes:
                    room -= len(part)
            if room < 0 and count:
                return


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
