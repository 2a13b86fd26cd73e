"""What can be asked of the store: one frozen class a command, with its work and its effect on the cache.

- ``run_all`` works in the store's thread, inside one transaction. It answers each command; a refusal
  (``KeyholtError``) is an answer and has changed nothing.
- ``settle`` works in the trio thread, after the commit, in the order in which commands were run.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from itertools import groupby
from typing import Any, ClassVar, Final, Generic, TypeVar

from outcome import Error, Outcome, Value
from sqlalchemy import Connection

from keyholt_agent.store import key_rows, secret_reads, secret_writes
from keyholt_agent.store.cache import SecretCache
from keyholt_agent.store.records import (
    Head,
    LargeVersion,
    MasterKeyRow,
    NewVersion,
    SecretSummary,
    SecretVersion,
    SlotRow,
    SlotTable,
    StoreSeed,
    VersionSummary,
)
from keyholt_protocol.errors import AlreadyExistsError, KeyholtError
from keyholt_protocol.limits import MAX_VALUE

__all__ = [
    "AddMasterVersion",
    "AnyCommand",
    "Command",
    "CountSecrets",
    "CreateStore",
    "DeleteSecret",
    "DestroyVersion",
    "Effect",
    "Kind",
    "ListSecrets",
    "PutSecret",
    "ReadHead",
    "ReadHistory",
    "ReadLargeSecret",
    "ReadMasterKeys",
    "ReadSecret",
    "ReadSlotTable",
    "ReplaceSlotTable",
    "ReserveWraps",
    "UndeleteSecret",
    "run_all",
    "settle",
]

T = TypeVar("T")

READ_WEIGHT: Final = 512 * 1024
"""Bytes that a read may hold, so that 64 of them fill a batch; larger values are read by themselves."""


class Kind(Enum):
    """How a command is run, in the order in which the kinds of one batch are."""

    CREATE = auto()
    READ = auto()
    WRITE = auto()


class Effect(Enum):
    """What a command that succeeded means for the cache: its result is the latest version, or was."""

    NONE = auto()
    KEEP = auto()
    EVICT = auto()


class Command(ABC, Generic[T]):
    """One thing asked of the store.

    Attributes:
        kind: reads may be run in any order; writes keep theirs.
        erases: whether the old bytes must be gone from the log too before the answer.
        weight: bytes that it may hold in memory, for the bound of a batch.
    """

    __slots__ = ()
    kind: ClassVar[Kind] = Kind.READ
    erases: ClassVar[bool] = False

    @property
    def weight(self) -> int:
        return 0

    @abstractmethod
    def run(self, connection: Connection) -> T:
        """Run this command alone; a refusal is raised."""


AnyCommand = Command[Any]
Together = Callable[[Connection, Any], list[Outcome[Any]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretCommand(Command[T]):
    """A command on one secret, which the cache may hold."""

    path: str

    @property
    def effect(self) -> Effect:
        return Effect.NONE


def run_all(connection: Connection, commands: Sequence[AnyCommand]) -> list[Outcome[Any]]:
    """Run commands in their order, inside the caller's transaction, and answer each."""
    outcomes: list[Outcome[Any]] = []
    for command_class, run in groupby(commands, key=_class):
        together: Together = _TOGETHER.get(command_class, _one_by_one)
        outcomes += together(connection, list(run))
    return outcomes


def _class(command: AnyCommand) -> type[AnyCommand]:
    return type(command)


def settle(cache: SecretCache, command: AnyCommand, result: object, *, recent: bool) -> None:
    """Bring the cache up to date with a command that succeeded.

    Args:
        recent: False when the cache was dropped after the command was asked for: it may then only evict.
    """
    if not isinstance(command, SecretCommand) or command.effect is Effect.NONE:
        return
    if (
        recent
        and command.effect is Effect.KEEP
        and isinstance(result, SecretVersion)
        and not result.destroyed
    ):
        cache.keep(command.path, result)
    else:
        cache.evict(command.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateStore(Command[None]):
    kind = Kind.CREATE
    seed: StoreSeed

    def run(self, connection: Connection) -> None:  # noqa: ARG002 (every command has it)
        # The core creates a store where there is none; what has a connection has one.
        raise AlreadyExistsError("there is a store already; `keyholt unlock` opens it")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadSecret(SecretCommand[SecretVersion | LargeVersion]):
    version: int | None

    @property
    def weight(self) -> int:
        return READ_WEIGHT

    @property
    def effect(self) -> Effect:
        return Effect.KEEP if self.version is None else Effect.NONE

    def run(self, connection: Connection) -> SecretVersion | LargeVersion:
        return _read_all(connection, [self])[0].unwrap()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadLargeSecret(SecretCommand[SecretVersion]):
    """What ``ReadSecret`` answers with ``LargeVersion``; to be asked for one at a time."""

    version: int | None

    @property
    def weight(self) -> int:
        return MAX_VALUE

    @property
    def effect(self) -> Effect:
        return Effect.KEEP if self.version is None else Effect.NONE

    def run(self, connection: Connection) -> SecretVersion:
        return secret_reads.read_secret(connection, self.path, self.version)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadHead(SecretCommand[Head]):
    def run(self, connection: Connection) -> Head:
        return _head_all(connection, [self])[0].unwrap()


@dataclass(frozen=True, slots=True, kw_only=True)
class PutSecret(SecretCommand[SecretVersion]):
    kind = Kind.WRITE
    new: NewVersion
    deleted: bool | None = None

    @property
    def weight(self) -> int:
        return len(self.new.value) + len(self.new.metadata)

    @property
    def effect(self) -> Effect:
        return Effect.KEEP

    def run(self, connection: Connection) -> SecretVersion:
        return _put_all(connection, [self])[0].unwrap()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteSecret(SecretCommand[int]):
    kind = Kind.WRITE
    deleted_at: int

    @property
    def effect(self) -> Effect:
        return Effect.EVICT

    def run(self, connection: Connection) -> int:
        return secret_writes.delete_secret(connection, self.path, self.deleted_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class UndeleteSecret(SecretCommand[int]):
    kind = Kind.WRITE

    def run(self, connection: Connection) -> int:
        return secret_writes.undelete_secret(connection, self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class DestroyVersion(SecretCommand[None]):
    kind = Kind.WRITE
    erases = True
    version: int

    @property
    def effect(self) -> Effect:
        return Effect.EVICT

    def run(self, connection: Connection) -> None:
        secret_writes.destroy_version(connection, self.path, self.version)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListSecrets(Command[list[SecretSummary]]):
    prefix: str
    after: str | None
    limit: int

    def run(self, connection: Connection) -> list[SecretSummary]:
        return secret_reads.list_secrets(connection, self.prefix, self.after, self.limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadHistory(Command[tuple[Head, list[VersionSummary]]]):
    path: str
    before: int | None
    limit: int

    def run(self, connection: Connection) -> tuple[Head, list[VersionSummary]]:
        return secret_reads.history(connection, self.path, self.before, self.limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class CountSecrets(Command[secret_reads.Counts]):
    def run(self, connection: Connection) -> secret_reads.Counts:
        return secret_reads.count_secrets(connection)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadSlotTable(Command[SlotTable]):
    def run(self, connection: Connection) -> SlotTable:
        return key_rows.slot_table(connection)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaceSlotTable(Command[None]):
    kind = Kind.WRITE
    erases = True
    slots: tuple[SlotRow, ...]
    mac: bytes
    expected_mac: bytes

    def run(self, connection: Connection) -> None:
        key_rows.replace_slot_table(connection, self.slots, mac=self.mac, expected_mac=self.expected_mac)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadMasterKeys(Command[list[MasterKeyRow]]):
    def run(self, connection: Connection) -> list[MasterKeyRow]:
        return key_rows.master_keys(connection)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReserveWraps(Command[None]):
    kind = Kind.WRITE
    key_id: bytes
    version: int
    count: int
    limit: int

    def run(self, connection: Connection) -> None:
        key_rows.reserve_wraps(connection, self.key_id, self.version, count=self.count, limit=self.limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class AddMasterVersion(Command[None]):
    kind = Kind.WRITE
    row: MasterKeyRow
    retire: tuple[bytes, int] | None

    def run(self, connection: Connection) -> None:
        key_rows.add_master_version(connection, self.row, retire=self.retire)


def _read_all(
    connection: Connection, commands: Sequence[ReadSecret]
) -> list[Outcome[SecretVersion | LargeVersion]]:
    wanted = [(command.path, command.version) for command in commands]
    return secret_reads.read_secrets(connection, wanted, most=READ_WEIGHT)


def _put_all(connection: Connection, commands: Sequence[PutSecret]) -> list[Outcome[SecretVersion]]:
    puts = [secret_writes.Put(command.path, command.new, command.deleted) for command in commands]
    return secret_writes.put_secrets(connection, puts)


def _head_all(connection: Connection, commands: Sequence[ReadHead]) -> list[Outcome[Head]]:
    heads = secret_reads.read_heads(connection, [command.path for command in commands])
    return [Value(head) for head in heads]


def _one_by_one(connection: Connection, commands: Sequence[AnyCommand]) -> list[Outcome[Any]]:
    return [_answer(connection, command) for command in commands]


def _answer(connection: Connection, command: AnyCommand) -> Outcome[Any]:
    try:
        return Value(command.run(connection))
    except KeyholtError as refusal:
        return Error(refusal)


_TOGETHER: Final[dict[type[AnyCommand], Together]] = {
    ReadSecret: _read_all,
    ReadHead: _head_all,
    PutSecret: _put_all,
}
"""The classes whose commands share statements; all others are run one by one."""
