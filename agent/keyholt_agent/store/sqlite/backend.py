"""The store in the hands of its thread: runs commands, and decides what a failure means.

- Commands handed over together are one transaction, so one commit: all answered after it, or all failed.
- After a failed read, write or fsync nothing is acknowledged until the store has been reopened, checked
  page by page, and its log brought into the database: a failed fsync may have marked pages clean that
  never reached the disk, so what the log holds must be written anew (PostgreSQL's "fsyncgate").
- A full disk is no such failure: the transaction is rolled back and the store stays open.
- A file that was put in the place of the store is never taken for it.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from outcome import Error, Outcome, Value

from keyholt_agent.store.commands import (
    AnyAnswer,
    AnyCommand,
    CountSecrets,
    CreateStore,
    DeleteSecret,
    DestroyVersion,
    Kind,
    ListSecrets,
    PutSecret,
    ReadHistory,
    ReadNewest,
    ReadSecret,
    UndeleteSecret,
)
from keyholt_agent.store.errors import ErasureOwedError
from keyholt_agent.store.key_commands import (
    AddKeyslot,
    AddMasterVersion,
    AddUp,
    CountRetiringKeys,
    CountWraps,
    Cover,
    PutInForce,
    ReadMasterKeys,
    ReadSlotTable,
    ReadWrappedKeys,
    ReplaceRoot,
    RetireMasterVersion,
    RewrapKeys,
)
from keyholt_agent.store.path_commands import CopySecret, MoveSecret, PurgeSecret
from keyholt_agent.store.sqlite import keys, listings, paths, rekeying, secrets
from keyholt_agent.store.sqlite.creation import create_store, remove_store
from keyholt_agent.store.sqlite.database import LOG_LIMIT, Database
from keyholt_agent.store.sqlite.failures import (
    is_disk_full,
    is_fault,
    is_out_of_room,
    replaced_error,
    translate,
)
from keyholt_agent.store.sqlite.home import FileIdentity, StoreHome
from keyholt_agent.store.sqlite.sealing import Sealing, add_up
from keyholt_agent.store.sqlite.transaction import Transaction
from keyholt_protocol.errors import IntegrityError, InternalError, KeyholtError, UninitialisedError

__all__ = ["ANSWERS", "SqliteBackend"]

RECOVERY_INTERVAL: Final = 1.0
"""Seconds between attempts to recover, so that a flood of requests is not a flood of whole checks."""

REBUILD_INTERVAL: Final = 60.0
"""Seconds between attempts to rebuild a store that there was no room for: each writes as much as it holds."""

ANSWERS: Final[dict[type[AnyCommand], AnyAnswer]] = dict(
    (
        ReadSecret.answered_by(secrets.read_secret),
        ReadNewest.answered_by(secrets.read_newest),
        PutSecret.answered_by(secrets.put_secret),
        DeleteSecret.answered_by(secrets.delete_secret),
        UndeleteSecret.answered_by(secrets.undelete_secret),
        DestroyVersion.answered_by(secrets.destroy_version),
        MoveSecret.answered_by(paths.move_secret),
        CopySecret.answered_by(paths.copy_secret),
        PurgeSecret.answered_by(paths.purge_secret),
        ListSecrets.answered_by(listings.list_secrets),
        ReadHistory.answered_by(listings.read_history),
        CountSecrets.answered_by(listings.count_secrets),
        ReadSlotTable.answered_by(keys.read_slot_table),
        AddKeyslot.answered_by(keys.add_keyslot),
        ReadMasterKeys.answered_by(keys.read_master_keys),
        CountWraps.answered_by(keys.count_wraps),
        AddMasterVersion.answered_by(keys.add_master_version),
        AddUp.answered_by(add_up),
        ReplaceRoot.answered_by(rekeying.replace_root),
        ReadWrappedKeys.answered_by(rekeying.read_wrapped_keys),
        RewrapKeys.answered_by(rekeying.rewrap_keys),
        CountRetiringKeys.answered_by(rekeying.count_retiring_keys),
        RetireMasterVersion.answered_by(rekeying.retire_master_version),
    )
)
"""What answers each command, but those on the back end itself: ``CreateStore``, which makes what all others
work on, and those that say whose keys seal its state.
"""

_log = logging.getLogger(__name__)


class SqliteBackend:
    """One store, from claim to release; every method belongs to one thread."""

    def __init__(self, directory: Path) -> None:
        self._home = StoreHome(directory)
        self._database: Database | None = None
        self._identity: FileIdentity | None = None
        self._fault: KeyholtError | None = None
        self._next_recovery = 0.0
        self._log_bytes = 0
        self._erasure_owed = False
        self._rebuild_owed = False
        self._next_rebuild = 0.0
        self._sealing = Sealing()
        self._answers = ANSWERS | dict(
            (
                PutInForce.answered_by(self._sealing.put_in_force),
                Cover.answered_by(self._sealing.cover),
            )
        )

    @property
    def initialised(self) -> bool:
        """Whether there is a store; safe to ask from any thread, for it is one attribute, set once."""
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
        """Run commands of one kind together; the answers are in the commands' order.

        Nothing is answered well before it is as durable as its command asks for: each of the steps below may
        fail, and then all commands are answered with that.
        """
        if creations := [command for command in commands if isinstance(command, CreateStore)]:
            return [self._create(command) for command in creations]
        if len(commands) > 1 and commands[0].kind is Kind.ALONE:
            return [outcome for command in commands for outcome in self.run([command])]
        try:
            # 1. A store that failed is not worked on before it was reopened and found whole.
            database = self._usable()
            # 2. One transaction. It ends with a COMMIT that returns once the log has been through fdatasync.
            with self._transaction(database, commands[0]) as transaction:
                outcomes = [self._answer(transaction, command) for command in commands]
            # 3. That made it durable in the files that are open. If those at the store's names are others by
            #    now, nobody would find it there again.
            log_bytes = database.check_identity()
            if commands[0].kind is not Kind.READ:
                self._log_bytes = log_bytes
            # 4. What was overwritten in the database still stands in older pages of the log. Whatever was
            #    refused has overwritten nothing.
            done = [
                command
                for command, outcome in zip(commands, outcomes, strict=True)
                if isinstance(outcome, Value)
            ]
            if any(command.rebuilds for command in done):
                self._rebuild_owed, self._next_rebuild = True, 0.0
            if any(command.erases for command in done):
                return self._erase(database, commands, outcomes)
        except Exception as error:
            return self._fail(commands, error)
        return outcomes

    def maintain(self) -> None:
        """What needs no caller: recover from a failure, and keep the log short."""
        if self._fault is not None:
            self._maybe_recover()
        elif self._database is not None and (
            self._erasure_owed or self._rebuild_due or self._log_bytes > LOG_LIMIT
        ):
            self._checkpoint(self._database)

    def _fail(self, commands: Sequence[AnyCommand], error: Exception) -> list[Outcome[Any]]:
        """What a failure of ``run`` means for the store, and the answers to its commands."""
        # The transaction was rolled back, but for a failure after its commit or within it: then what it wrote
        # may be found later or not. In no case is it acknowledged.
        if is_disk_full(error):
            # There was no room, so SQLite took back what it had begun, and all that was there before still
            # is. The store serves on: reading needs no room.
            pass
        elif is_fault(error):
            # The disk or the file cannot be relied on, nor what SQLite holds of it in memory: a page whose
            # fsync failed may count as written by now. From here on ``_usable`` refuses everything until
            # ``_maybe_recover`` has read the files anew. The first fault stands: its sentence names the
            # cause.
            if self._fault is None:
                self._set_fault(error)
        elif len(commands) > 1 and (isinstance(error, IntegrityError) or not isinstance(error, KeyholtError)):
            # The store is whole, so one of the commands is a defect, or met a damaged row: it would fail
            # again. All were rolled back together; each is run by itself now, and the others are none the
            # worse.
            return [outcome for command in commands for outcome in self.run([command])]
        return [Error(self._translated(error)) for _ in commands]

    def _usable(self) -> Database:
        if self._fault is not None:
            self._maybe_recover()
        if self._fault is not None:
            raise self._fault
        if self._database is None:
            raise UninitialisedError
        return self._database

    def _maybe_recover(self) -> None:
        """Reopen a store that failed, unless that was tried a moment ago."""
        if (now := time.monotonic()) < self._next_recovery:
            return
        self._next_recovery = now + RECOVERY_INTERVAL
        # SQLite's memory of the file goes with the connection. Whatever the next opening finds comes from the
        # disk: the database, and those commits of the log that are whole there.
        self._close()
        try:
            if FileIdentity.of(self._home.store) != self._identity:
                raise replaced_error(self._home.store)
            # Opening brings the log into the database, which writes and syncs its pages anew.
            self._open(whole_check=True)
        except Exception as error:
            self._fault = translate(error, self._home.store)
            return
        _log.warning("the store was reopened and is whole")

    def _erase(
        self, database: Database, commands: Sequence[AnyCommand], outcomes: list[Outcome[Any]]
    ) -> list[Outcome[Any]]:
        """Clear the log of what was destroyed; when there is no room for that, say so and owe it.

        A store that could not be rebuilt is owed to whoever purged, and to nobody else.
        """
        self._erasure_owed = True
        self._checkpoint(database)
        if self._fault is not None:
            raise self._fault
        for index, command in enumerate(commands):
            owed = (command.erases and self._erasure_owed) or (command.rebuilds and self._rebuild_owed)
            if owed and isinstance(outcomes[index], Value):
                outcomes[index] = Error(ErasureOwedError())
        return outcomes

    @property
    def _rebuild_due(self) -> bool:
        return self._rebuild_owed and time.monotonic() >= self._next_rebuild

    def _checkpoint(self, database: Database) -> None:
        try:
            database.check_identity()
            if self._rebuild_due:
                self._rebuild(database)
            database.checkpoint(clear=self._erasure_owed)
        except Exception as error:
            if not is_disk_full(error) and not isinstance(error, MemoryError):
                self._set_fault(error)
            return
        self._log_bytes = 0
        self._erasure_owed = False

    def _rebuild(self, database: Database) -> None:
        """Write the store anew; without room for that it is owed, and the store as good as before."""
        self._next_rebuild = time.monotonic() + REBUILD_INTERVAL  # unless it succeeds
        self._erasure_owed = True  # the log has the old pages, or those of an attempt
        try:
            database.rebuild()
        except Exception as error:
            if not is_out_of_room(error):
                raise
            _log.warning(
                "no room to rebuild the store after a purge, which is tried again (%s): free some memory and "
                "disk space, and let the agent write in its state directory",
                getattr(error, "sqlite_errorname", type(error).__name__),
            )
        else:
            self._rebuild_owed = False

    def _create(self, command: CreateStore) -> Outcome[None]:
        try:
            create_store(self._home, command.seed, command.keeper)
            try:
                self._open()
            except BaseException:
                remove_store(self._home)  # nobody was told of it, and nothing is in it
                raise
            self._sealing.begin(command.keeper)
        except Exception as error:
            return Error(self._translated(error))
        return Value(None)

    def _open(self, *, whole_check: bool = False) -> None:
        self._home.inspect()
        self._database = Database.open(self._home.store, whole_check=whole_check)
        self._identity = self._database.identity
        self._fault = None
        self._log_bytes = 0
        self._erasure_owed, self._rebuild_owed = False, self._database.rebuild_owed

    def _close(self) -> None:
        if self._database is not None:
            # Whatever is wrong with it, it has to go; the next opening finds out what it left. The log is
            # brought in first: where the file was moved away SQLite would leave it, and replay it into
            # whatever file stands in the store's place at the next start.
            with suppress(Exception):
                self._database.checkpoint(clear=True)
            with suppress(Exception):
                self._database.close()
            self._database = None

    @contextmanager
    def _transaction(self, database: Database, command: AnyCommand) -> Generator[Transaction, None, None]:
        """The transaction of a command and those beside it, which are of the same kind."""
        if isinstance(command, ReplaceRoot):
            with self._sealing.replacing(database, command.keeper) as transaction:
                yield transaction
        elif command.kind in {Kind.WRITE, Kind.ALONE}:
            with self._sealing.writing(database) as transaction:
                yield transaction
        else:
            with database.transaction() as connection:
                yield Transaction(connection)

    def _answer(self, transaction: Transaction, command: AnyCommand) -> Outcome[Any]:
        try:
            return Value(self._answers[type(command)](transaction, command))
        except IntegrityError:
            raise  # of a row that may be met when others were written already: all of it is taken back
        except KeyholtError as refusal:
            if command.kind is Kind.ALONE:
                raise  # what it has written already is taken back
            return Error(refusal)

    def _set_fault(self, error: Exception) -> None:
        self._sealing.failed()
        self._fault = translate(error, self._home.store)
        _log.error("the store failed: %s", self._fault)

    def _translated(self, error: Exception) -> KeyholtError:
        """A new exception for each caller: a shared one would collect the traceback of every task."""
        translated = translate(error, self._home.store)
        if isinstance(translated, InternalError):
            _log.error("a store command failed", exc_info=error)
        return copy.copy(translated)
