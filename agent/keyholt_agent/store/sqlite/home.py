"""The state directory: its lock, the names of the store's files, and what is told from the outside.

- The lock is taken before any other file is looked at, and held until ``release``: one agent a directory.
- Nobody but root and the agent's own uid may write in the directory or above it, nor read or write a file in
  it (``keyholt_agent.ownership``). A file that others may read is refused rather than closed to them: whoever
  could has the whole store by now, and its operator has to know.
- Nothing is read through this module while SQLite has the store open: closing any descriptor of a file
  drops all of a process's POSIX locks on it (fcntl(2)), SQLite's among them. Only ``stat`` is safe then.
- A missing directory is created 0700; the store file itself is created 0600 by ``creation``.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from keyholt_agent.ownership import OwnershipError, make_own_directory, require_own_file
from keyholt_agent.store.errors import StoreBusyError, StoreDamagedError, StoreForeignError
from keyholt_protocol.errors import StoreUnavailableError

__all__ = ["APPLICATION_ID", "FileIdentity", "StoreHome"]

APPLICATION_ID: Final = 0x4B484C54
"""``KHLT`` in the SQLite header at offset 68: tells a Keyholt store from any other database."""

SQLITE_MAGIC: Final = b"SQLite format 3\0"
"""The first 16 bytes of every SQLite database (sqlite.org/fileformat.html, section 1.3)."""

HEADER_SIZE: Final = 100
"""Bytes of an SQLite database's header."""

PAGE_SIZE_AT: Final = 16
PAGE_COUNT_AT: Final = 28
APPLICATION_ID_AT: Final = 68
"""Offsets in that header, of big-endian integers: u16 page size, u32 page count, u32 application id."""


BESIDE: Final = ("-wal", "-shm", "-journal")
"""What SQLite appends to a database's name for the files that it takes for a part of it."""


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """Which file a name stood for: the same name with another identity is another file."""

    device: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> FileIdentity | None:
        """The identity of the file at ``path``, or None if there is none."""
        try:
            status = os.stat(path)
        except FileNotFoundError:
            return None
        return cls(status.st_dev, status.st_ino)


class StoreHome:
    """One state directory, locked for this agent.

    Attributes:
        directory: where everything lies.
        store: the database.
        wal: its write-ahead log, named so by SQLite.
        draft: a store under construction, renamed to ``store`` once it is whole.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store = directory / "store.db"
        self.wal = directory / "store.db-wal"
        self.draft = directory / "store.db.new"
        self._lock: int | None = None

    def claim(self) -> None:
        """Create the directory if need be and lock it.

        Raises:
            StoreBusyError: another agent has it; stop that one or use another directory.
            StoreUnavailableError: others may write in it or above it, or use its lock.
            OSError: the directory cannot be made or written.
        """
        try:
            make_own_directory(self.directory)
        except OwnershipError as error:
            raise StoreUnavailableError(f"the state directory cannot be used: {error}") from None
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        lock = os.open(self.directory / "store.lock", flags, 0o600)
        try:
            require_own_file(self.directory / "store.lock", os.fstat(lock))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise StoreBusyError(
                f"another agent uses {self.directory}: stop it, or give this one its own --state-dir"
            ) from None
        except OwnershipError as error:
            os.close(lock)
            raise StoreUnavailableError(f"the state directory cannot be used: {error}") from None
        self._lock = lock

    def release(self) -> None:
        """Give the directory up; idempotent."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def has_store(self) -> bool:
        """Whether there is a store, whatever its condition.

        Raises:
            StoreDamagedError: the log of a store is there without the store. A new store beside it would
                have that log replayed into it, so the user has to decide.
        """
        if os.path.lexists(self.store):
            return True
        if os.path.lexists(self.wal):
            raise StoreDamagedError(
                f"{self.store} is missing but its log {self.wal.name} is there: "
                "put the store back, or move the log away to begin anew"
            )
        return False

    def inspect(self) -> None:
        """Refuse what cannot be a whole Keyholt store, before SQLite is let near it.

        Raises:
            StoreForeignError, StoreDamagedError: the message says which.
            StoreUnavailableError: others may read or write it or what lies beside it.
        """
        header, status = self._header()
        size = status.st_size
        if size == 0:
            raise StoreDamagedError(f"{self.store} is empty: restore a backup")
        if header[: len(SQLITE_MAGIC)] != SQLITE_MAGIC[: len(header)]:
            raise StoreForeignError(f"{self.store} is not an SQLite database, so not a Keyholt store")
        if len(header) < HEADER_SIZE:
            raise StoreDamagedError(f"{self.store} is cut short, within its header: restore a backup")
        if struct.unpack_from(">I", header, APPLICATION_ID_AT)[0] != APPLICATION_ID:
            raise StoreForeignError(
                f"{self.store} is another program's SQLite database: use another --state-dir"
            )
        if not self._has_log() and size < _promised_size(header):
            raise StoreDamagedError(f"{self.store} is cut short, {size} bytes long: restore a backup")
        for path, found in ((self.store, status), *self._beside()):
            try:
                require_own_file(path, found)
            except OwnershipError as error:
                raise StoreUnavailableError(f"the store cannot be used: {error}") from None

    def sync(self) -> None:
        """Make the directory's entries durable."""
        handle = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def _has_log(self) -> bool:
        # A checkpoint cut off by a crash leaves a store shorter than its header says: the log has the rest.
        return os.path.exists(self.wal) and os.stat(self.wal).st_size > 0

    def _beside(self) -> Iterator[tuple[Path, os.stat_result]]:
        """What SQLite reads beside the store, if it is there."""
        for suffix in BESIDE:
            path = self.store.with_name(self.store.name + suffix)
            with suppress(FileNotFoundError):
                yield path, os.lstat(path)

    def _header(self) -> tuple[bytes, os.stat_result]:
        # O_NONBLOCK: a FIFO of that name must not hang the agent.
        try:
            handle = os.open(self.store, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            raise StoreUnavailableError(
                f"{self.store} is a link: name the directory that it leads to with --state-dir"
            ) from None
        try:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise StoreUnavailableError(f"{self.store} is not a regular file")
            return os.read(handle, HEADER_SIZE), status
        finally:
            os.close(handle)


def _promised_size(header: bytes) -> int:
    """Bytes that the header promises."""
    page: int = struct.unpack_from(">H", header, PAGE_SIZE_AT)[0]
    count: int = struct.unpack_from(">I", header, PAGE_COUNT_AT)[0]
    # 64 KiB does not fit in the field and is written as 1.
    return count * (0x10000 if page == 1 else page)
