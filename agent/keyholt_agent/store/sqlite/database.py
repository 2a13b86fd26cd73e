"""One SQLite connection to a store: how it is opened, checked, checkpointed and closed.

- One connection, in the thread that made it, with SQLite's exclusive lock held throughout. Before 3.51.3
  SQLite can corrupt a WAL when two connections write or checkpoint at once; this way no second one can,
  and the WAL's index lives in memory (no ``-shm`` file).
- ``synchronous=FULL``: a commit that returned has been through fdatasync.
- Checkpoints are asked for here, never left to SQLite: its automatic one swallows its I/O errors.
- Foreign exceptions leave this module as they are; ``failures.translate`` is applied by the callers.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote

from keyholt_agent.store.errors import StoreDamagedError, StoreNewerError
from keyholt_agent.store.sqlite import sql
from keyholt_agent.store.sqlite.columns import CHECKED, HEAP_LIMIT, LARGEST, CheckedCursor
from keyholt_agent.store.sqlite.failures import replaced_error, translate
from keyholt_agent.store.sqlite.home import FileIdentity
from keyholt_protocol.errors import IntegrityError, StoreUnavailableError

__all__ = ["LOG_LIMIT", "OWE_REBUILD", "REVISION", "Database"]

REVISION: Final = "0001"
"""The newest migration, known here so that opening a store need not import alembic."""

WHOLE_CHECK_LIMIT: Final = 512 * 1024 * 1024
"""Bytes of a store up to which every page is checked at each start (1.6 s/GB from memory); above it,
every page is checked only after a failure, and structure alone at a start."""

PAGE_CACHE_KIB: Final = 8 * 1024
"""KiB of SQLite's own page cache: enough for the inner pages of a million secrets."""

LOG_LIMIT: Final = 4 * 1024 * 1024
"""Bytes of log after which it is brought into the database: short to replay, rare enough to cost little."""

OWE_REBUILD: Final = "PRAGMA user_version = 1"
"""Notes, with the transaction that it stands in, that ``rebuild`` is owed: also after a crash before that."""

SMALL_REBUILD: Final = 48 * 1024 * 1024
"""Bytes of a store up to which it is rebuilt in memory, within ``HEAP_LIMIT``; a larger one by a temporary
file beside it, without a name, in which nothing stands that does not stand in the store."""

STATEMENTS: Final = 64
"""Prepared statements kept by the driver: more than there are."""

PRAGMAS: Final = (
    "locking_mode=EXCLUSIVE",
    "synchronous=FULL",
    "wal_autocheckpoint=0",
    # Once the log is in the database it is cut back to this size and written over from its beginning. A
    # commit that makes it longer has the file system write down its size too, and wait for that as well.
    f"journal_size_limit={LOG_LIMIT}",
    "secure_delete=ON",
    "foreign_keys=ON",
    "cell_size_check=ON",
    "trusted_schema=OFF",
    "temp_store=MEMORY",
    f"cache_size=-{PAGE_CACHE_KIB}",
    f"hard_heap_limit={HEAP_LIMIT}",
)


class _Connection(sqlite3.Connection):
    """One whose rows are checked."""

    def execute(self, statement: str, values: Any = (), /) -> sqlite3.Cursor:
        if statement in CHECKED:
            return self.cursor(CheckedCursor).execute(statement, values)
        return super().execute(statement, values)


class Database:
    """An open store; made, used and closed in one thread.

    Attributes:
        connection: for statements, inside ``transaction`` only.
        identity: which file this is.
    """

    def __init__(self, path: Path) -> None:
        """Connect; use ``open`` for an existing store."""
        self._path = path
        self._wal = path.with_name(path.name + "-wal")
        # isolation_level None: the driver begins nothing by itself; ``transaction`` does.
        self.connection: Final = sqlite3.connect(
            f"file:{quote(str(path))}?mode=rw",
            uri=True,
            isolation_level=None,
            timeout=0,
            cached_statements=STATEMENTS,
            factory=_Connection,
        )
        self.connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGEST)
        for pragma in PRAGMAS:
            self.pragma(pragma)
        self.identity = FileIdentity.of(path)
        self._wal_identity: FileIdentity | None = None

    @classmethod
    def open(cls, path: Path, *, whole_check: bool = False) -> Self:
        """Open an existing store, replay its log, check it, and migrate it if it is older.

        Args:
            path: the store.
            whole_check: check every page, however large the store is.

        Raises:
            StoreNewerError, StoreDamagedError: it is refused, and unchanged.
            sqlite3.Error, OSError: see ``failures.translate``.
        """
        database = cls(path)
        try:
            database.pragma("journal_mode=WAL")
            database._verify(whole=whole_check or os.stat(path).st_size <= WHOLE_CHECK_LIMIT)
            database.checkpoint(clear=True)
        except BaseException as error:
            database.close()
            if isinstance(error, Exception) and isinstance(refusal := translate(error, path), IntegrityError):
                raise StoreDamagedError(str(refusal)) from None  # a row that says what the store is
            raise
        return database

    @contextmanager
    def transaction(self) -> Generator[sqlite3.Connection, None, None]:
        """A transaction: committed and durable when the block ends, rolled back if it raises."""
        self.connection.execute("BEGIN")
        try:
            yield self.connection
            self.connection.execute("COMMIT")
        except BaseException:
            # Some failures have SQLite roll back by itself (sqlite.org/lang_transaction.html, section 3).
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise

    def check_identity(self) -> int:
        """Make sure that the files at the store's names are still the ones that are open.

        Returns:
            The size of the log's file in bytes: ``LOG_LIMIT`` at most, unless more was logged than that since
            the last checkpoint.

        Raises:
            StoreUnavailableError: somebody removed or replaced one; nothing written since is safe.
        """
        if FileIdentity.of(self._path) != self.identity:
            raise replaced_error(self._path)
        try:
            log = os.stat(self._wal)
        except FileNotFoundError:
            log = None
        if log is None or FileIdentity(log.st_dev, log.st_ino) != self._wal_identity:
            raise replaced_error(self._wal)
        return log.st_size

    def checkpoint(self, *, clear: bool) -> None:
        """Bring the whole log into the database, durably.

        Args:
            clear: cut the log to nothing; otherwise what it holds stays until it is written over.
        """
        row = self.pragma(f"wal_checkpoint({'TRUNCATE' if clear else 'RESTART'})")
        if row is None or row[0] != 0:
            raise StoreUnavailableError(
                f"{self._path} could not be checkpointed: another program has it open"
            )
        self._wal_identity = FileIdentity.of(self._wal)

    @property
    def rebuild_owed(self) -> bool:
        """Whether something was purged since the last rebuild."""
        return self.pragma("user_version") != (0,)

    def rebuild(self) -> None:
        """Write every page anew, so that unused parts of pages hold nothing; the log has the old ones still.

        SQLite zeroes what is deleted (``secure_delete``), but not what it leaves behind where it moves cells
        from one page to another (``schema``).

        Raises:
            sqlite3.Error, MemoryError: see ``failures.is_out_of_room``; after those, all is as before.
        """
        # Where SQLite would look for a place by itself the agent may not be allowed to write.
        beside = str(self._path.parent).replace("'", "''")
        with suppress(sqlite3.OperationalError):  # nor there, it seems: the rebuild itself will tell
            self.pragma(f"temp_store_directory='{beside}'")
        small = os.stat(self._path).st_size <= SMALL_REBUILD
        self.pragma(f"temp_store={'MEMORY' if small else 'FILE'}")
        try:
            self.connection.execute("VACUUM")
        finally:
            self.pragma("temp_store=MEMORY")
        self.pragma("user_version = 0")

    def pragma(self, pragma: str) -> tuple[object, ...] | None:
        """Run a pragma, outside any transaction, and return its first row."""
        row: tuple[object, ...] | None = self.connection.execute(f"PRAGMA {pragma}").fetchone()
        return row

    def close(self) -> None:
        """Close the connection; SQLite brings the log into the database if it can."""
        self.connection.close()

    def _verify(self, *, whole: bool) -> None:
        with self.transaction() as connection:
            self._check_format(connection)
            self._check_schema(connection)
            if connection.execute(sql.IDENTITIES).fetchall() != [(1,)]:
                raise StoreDamagedError(f"{self._path} has no identity row: restore a backup")
        if whole and (found := self.pragma("quick_check(1)")) != ("ok",):
            detail = " ".join(str(found[0] if found else "").split())
            raise StoreDamagedError(f"{self._path} is damaged ({detail}): restore a backup")

    def _check_format(self, connection: sqlite3.Connection) -> None:
        revisions = connection.execute(sql.REVISIONS).fetchall()
        if len(revisions) != 1:
            raise StoreDamagedError(f"{self._path} does not say which format it has: restore a backup")
        revision = str(revisions[0][0])
        if revision == REVISION:
            return
        # SQLAlchemy and alembic cost 30 MB and 300 ms to import: only for a store that needs them.
        from keyholt_agent.store.sqlite import migrate

        if not migrate.knows(revision):
            raise StoreNewerError(
                f"{self._path} has format {revision!r}, newer than this program: run the newer keyholt-agent"
            )
        migrate.upgrade(connection)

    def _check_schema(self, connection: sqlite3.Connection) -> None:
        """Refuse a trigger, a view or a table made otherwise: it could undo what is acknowledged.

        A trigger is not all that can: ``NOT NULL ON CONFLICT IGNORE`` in a table's own words is enough.
        """
        rows = connection.execute(
            "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL LIMIT 1000"
        )
        # But for the accidents of its layout, which a migration leaves otherwise than a creation.
        found = {(str(kind), str(name), " ".join(str(text).split())) for kind, name, text in rows}
        if changed := found.symmetric_difference(sql.SCHEMA):
            names = ", ".join(sorted({name for _, name, _ in changed}))
            raise StoreDamagedError(f"{self._path} is not as Keyholt made it ({names}): restore a backup")
