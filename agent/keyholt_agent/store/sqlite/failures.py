"""The one seam where the errors of SQLite and of the system become Keyholt's.

- ``translate`` is the only place that looks into them.
- ``is_fault`` tells the store's failures from defects of a single command: a fault fails a whole batch.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path
from typing import Final

from keyholt_agent.store.errors import StoreBusyError, StoreDamagedError, StoreForeignError
from keyholt_protocol.errors import (
    IntegrityError,
    InternalError,
    KeyholtError,
    ResourceExhaustedError,
    StoreUnavailableError,
)

__all__ = ["is_disk_full", "is_fault", "is_out_of_room", "replaced_error", "translate"]

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Errnos of a disk, a quota or a file size limit that is used up."""

NOT_WRITABLE: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
"""Errnos of a place that may be read but not written, or not even that."""

NO_TEMPORARY_FILE: Final = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY})
"""Primary codes of a temporary file that cannot be made, where the store's own files are open and locked."""

PRIMARY_CODE: Final = 0xFF
"""An extended SQLite result code keeps its primary code in the low byte (sqlite.org/rescode.html)."""


def is_disk_full(error: BaseException) -> bool:
    """Whether the disk, a quota or a file size limit is used up: nothing was lost, a rollback is enough."""
    match error:
        case OSError():
            return error.errno in FULL
        case sqlite3.Error():
            return _code(error) & PRIMARY_CODE == sqlite3.SQLITE_FULL
        case _:
            return False


def is_out_of_room(error: BaseException) -> bool:
    """Whether a rebuild had no room: in memory, on the disk, or for its temporary file. Nothing was changed.

    A write that fails for another reason may be one to the log, and is a fault.
    """
    if isinstance(error, MemoryError) or is_disk_full(error):
        return True
    if not isinstance(error, sqlite3.Error):
        return False
    code = _code(error)
    return code == sqlite3.SQLITE_IOERR_GETTEMPPATH or code & PRIMARY_CODE in NO_TEMPORARY_FILE


def is_fault(error: BaseException) -> bool:
    """Whether the store itself failed, rather than one command; its connection is not to be trusted then."""
    if isinstance(error, sqlite3.IntegrityError | sqlite3.DataError | sqlite3.ProgrammingError):
        return False
    if is_damaged_row(error):
        return False
    return isinstance(error, sqlite3.DatabaseError | OSError | StoreUnavailableError)


def is_damaged_row(error: BaseException) -> bool:
    """Whether the driver could not make sense of one row: text where bytes belong, for example."""
    return isinstance(error, sqlite3.OperationalError) and not _code(error)


def translate(error: Exception, path: Path) -> KeyholtError:
    """The error to answer with, for whatever the store's thread met.

    Args:
        error: any but the likes of ``KeyboardInterrupt``; a Keyholt error is returned as it is.
        path: the file or directory that was worked on, named in the sentence.
    """
    match error:
        case KeyholtError():
            return error
        case OSError():
            return _from_system(error, path)
        case sqlite3.IntegrityError():
            return IntegrityError(f"rows of {path} contradict each other: restore a backup")
        case sqlite3.Error() if is_damaged_row(error):
            return IntegrityError(f"a row of {path} is damaged: restore a backup")
        case sqlite3.DataError():  # larger than ``columns.LARGEST``
            return IntegrityError(
                f"a row of {path} is larger than any that the agent writes: restore a backup"
            )
        case MemoryError():  # see ``columns.HEAP_LIMIT``
            return ResourceExhaustedError(
                f"working with {path} takes more memory than is allowed or free; free memory and try again, "
                "or, if that does not help, restore a backup"
            )
        case sqlite3.Error() if is_fault(error):
            return _from_sqlite(error, path)
        case _:
            return InternalError()


def replaced_error(path: Path) -> StoreUnavailableError:
    """One of the store's files is no longer the one that was opened."""
    return StoreUnavailableError(
        f"{path} was removed or replaced under the running agent: put it back, or restart the agent"
    )


def _no_room_error(path: Path) -> StoreUnavailableError:
    return StoreUnavailableError(f"no room to write {path}: free some disk space; nothing was changed")


def _not_writable_error(path: Path, name: str) -> StoreUnavailableError:
    return StoreUnavailableError(
        f"the agent may not write {path} ({name}): let its user write there and in the directory"
    )


def _from_system(error: OSError, path: Path) -> StoreUnavailableError:
    if error.errno in FULL:
        return _no_room_error(path)
    if error.errno in NOT_WRITABLE:
        return StoreUnavailableError(f"the agent may not write {path}: give its user the permission to")
    return StoreUnavailableError(f"cannot work with {path}: {error.strerror or type(error).__name__}")


def _from_sqlite(error: sqlite3.Error, path: Path) -> StoreUnavailableError:
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    if _code(error) == sqlite3.SQLITE_IOERR_LOCK and not os.access(path, os.W_OK, effective_ids=True):
        # SQLite opens what it may not write for reading, and fails at the lock for writers (fcntl(2)).
        return _not_writable_error(path, name)
    match _code(error) & PRIMARY_CODE:
        case sqlite3.SQLITE_FULL:
            return _no_room_error(path)
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StoreBusyError(f"another program has {path} open: close it")
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_FORMAT | sqlite3.SQLITE_ERROR:
            # The plain code is what a missing table gives: this program's SQL is otherwise correct.
            return StoreDamagedError(f"{path} is damaged ({name}): restore a backup")
        case sqlite3.SQLITE_NOTADB:
            return StoreForeignError(f"{path} is not an SQLite database, so not a Keyholt store")
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM | sqlite3.SQLITE_CANTOPEN:
            return _not_writable_error(path, name)
        case _:
            return StoreUnavailableError(
                f"reading or writing {path} failed ({name}): check the disk, then try again"
            )


def _code(error: sqlite3.Error) -> int:
    # Errors that the driver raises by itself, without asking SQLite, carry no code.
    return getattr(error, "sqlite_errorcode", 0)
