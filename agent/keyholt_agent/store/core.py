"""The store in the hands of its thread: runs commands, and decides what a failure means.

- Commands handed over together are one transaction, so one commit: all answered after it, or all failed.
- After a failed read, write or fsync nothing is acknowledged until the store has been reopened, checked
  page by page, and its log brought into the database: a failed fsync may have marked pages clean that
  never reached the disk, so what the log holds must be written anew (PostgreSQL's "fsyncgate").
- A full disk is no such failure: the transaction is rolled back and the store stays open.
- A file that was put in the place of the store is never taken for it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from outcome import Error, Outcome, Value

from keyholt_agent.store.commands import AnyCommand, CreateStore, run_all
from keyholt_agent.store.creation import create_store
from keyholt_agent.store.database import Database
from keyholt_agent.store.errors import is_disk_full, is_fault, replaced_error, translate
from keyholt_agent.store.home import FileIdentity, StoreHome
from keyholt_protocol.errors import InternalError, KeyholtError, StoreUnavailableError, UninitialisedError

__all__ = ["StoreCore"]

LOG_LIMIT: Final = 4 * 1024 * 1024
"""Bytes of log after which it is brought into the database: short to replay, rare enough to cost little."""

RECOVERY_INTERVAL: Final = 1.0
"""Seconds between attempts to recover, so that a flood of requests is not a flood of whole checks."""

_log = logging.getLogger(__name__)


class StoreCore:
    """One store, from claim to release; every method belongs to one thread."""

    def __init__(self, directory: Path) -> None:
        self._home = StoreHome(directory)
        self._database: Database | None = None
        self._identity: FileIdentity | None = None
        self._fault: KeyholtError | None = None
        self._next_recovery = 0.0
        self._log_bytes = 0
        self._erasure_owed = False

    @property
    def initialised(self) -> bool:
        """Whether there is a store."""
        return self._identity is not None

    @property
    def faulty(self) -> bool:
        """Whether the store failed and has not recovered."""
        return self._fault is not None

    def start(self) -> None:
        """Claim the directory and open the store if there is one.

        Raises:
            KeyholtError: see ``errors``; nothing is held then.
        """
        try:
            self._home.claim()
            if self._home.has_store():
                self._open()
        except Exception as error:
            self._home.release()
            raise translate(error, self._home.store) from error

    def stop(self) -> None:
        """Close the store and give the directory up."""
        self._close()
        self._home.release()

    def run(self, commands: Sequence[AnyCommand]) -> list[Outcome[Any]]:
        """Run commands of one kind together; the answers are in the commands' order."""
        if creations := [command for command in commands if isinstance(command, CreateStore)]:
            return [self._create(command) for command in creations]
        try:
            return self._commit(self._usable(), commands)
        except Exception as error:
            return self._fail(commands, error)

    def maintain(self) -> None:
        """What needs no caller: recover from a failure, and keep the log short."""
        if self._fault is not None:
            self._maybe_recover()
        elif self._database is not None and (self._erasure_owed or self._log_bytes > LOG_LIMIT):
            self._checkpoint(self._database)

    def _open(self, *, whole_check: bool = False) -> None:
        self._home.inspect()
        self._database = Database.open(self._home.store, whole_check=whole_check)
        self._identity = self._database.identity
        self._fault = None
        self._log_bytes = 0
        self._erasure_owed = False

    def _close(self) -> None:
        if self._database is not None:
            # Whatever is wrong with it, it has to go; the next opening finds out what it left. The log is
            # brought in first: where the file was moved away SQLite would leave it, and replay it into
            # whatever file stands in the store's place at the next start.
            with suppress(Exception):
                self._database.checkpoint()
            with suppress(Exception):
                self._database.close()
            self._database = None

    def _create(self, command: CreateStore) -> Outcome[None]:
        try:
            create_store(self._home, command.seed)
            self._open()
        except Exception as error:
            return Error(self._translated(error))
        return Value(None)

    def _usable(self) -> Database:
        if self._fault is not None:
            self._maybe_recover()
        if self._fault is not None:
            raise self._fault
        if self._database is None:
            raise UninitialisedError
        return self._database

    def _commit(self, database: Database, commands: Sequence[AnyCommand]) -> list[Outcome[Any]]:
        with database.transaction() as connection:
            outcomes = run_all(connection, commands)
        self._log_bytes = database.check_identity()
        if any(command.erases for command in commands):
            return self._erase(database, commands, outcomes)
        return outcomes

    def _erase(
        self, database: Database, commands: Sequence[AnyCommand], outcomes: list[Outcome[Any]]
    ) -> list[Outcome[Any]]:
        """Clear the log of what was destroyed; when there is no room for that, say so and owe it."""
        self._erasure_owed = True
        self._checkpoint(database)
        if self._fault is not None:
            raise self._fault
        if not self._erasure_owed:
            return outcomes
        sentence = "it is gone from the store, but not from its log yet: free some disk space"
        for index, command in enumerate(commands):
            if command.erases and isinstance(outcomes[index], Value):
                outcomes[index] = Error(StoreUnavailableError(sentence))
        return outcomes

    def _checkpoint(self, database: Database) -> None:
        try:
            database.check_identity()
            database.checkpoint()
        except Exception as error:
            if not is_disk_full(error):
                self._set_fault(error)
            return
        self._log_bytes = 0
        self._erasure_owed = False

    def _fail(self, commands: Sequence[AnyCommand], error: Exception) -> list[Outcome[Any]]:
        if is_fault(error) and not is_disk_full(error) and self._fault is None:
            self._set_fault(error)
        elif not is_fault(error) and not isinstance(error, KeyholtError) and len(commands) > 1:
            # One command is a defect of its caller; rolled back, the others are run without it.
            return [outcome for command in commands for outcome in self.run([command])]
        return [Error(self._translated(error)) for _ in commands]

    def _translated(self, error: Exception) -> KeyholtError:
        """A new exception for each caller: a shared one would collect the traceback of every task."""
        translated = translate(error, self._home.store)
        if isinstance(translated, InternalError):
            _log.error("a store command failed", exc_info=error)
        return type(translated)(str(translated))

    def _set_fault(self, error: Exception) -> None:
        self._fault = translate(error, self._home.store)
        _log.error("the store failed: %s", self._fault)

    def _maybe_recover(self) -> None:
        if (now := time.monotonic()) < self._next_recovery:
            return
        self._next_recovery = now + RECOVERY_INTERVAL
        self._close()
        try:
            if FileIdentity.of(self._home.store) != self._identity:
                raise replaced_error(self._home.store)
            self._open(whole_check=True)
        except Exception as error:
            self._fault = translate(error, self._home.store)
            return
        _log.warning("the store was reopened and is whole")
