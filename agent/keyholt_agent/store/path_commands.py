"""What can be asked of the store about a path as a whole, with all versions that it has.

As ``commands``: one frozen class a command, with what it answers and what refuses it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from keyholt_agent.store.commands import Command, Effect, Kind, SecretCommand
from keyholt_agent.store.rows import Resealed, SecretVersion

__all__ = ["CopySecret", "MoveSecret", "PurgeSecret", "Reseal"]

Reseal: TypeAlias = Callable[[SecretVersion], Resealed]
"""Seals a version for another path. The store's thread calls it, within the transaction, for each that is not
destroyed, so that one value at a time is in memory; what it raises takes all of it back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveSecret(Command[int]):
    """Give a path with its whole history, tombstone and all, another name. Answers the latest version.

    Raises:
        NotFoundError: ``path`` was never written.
        AlreadyExistsError: ``to`` was, and may be deleted.
        TooLargeError: its values are too long together.
        MasterRetiredError: the master key version that ``reseal`` wraps with is not the active one.
    """

    kind = Kind.ALONE
    path: str
    to: str
    reseal: Reseal

    @property
    def evicts(self) -> tuple[str, ...]:
        return (self.path, self.to)


@dataclass(frozen=True, slots=True, kw_only=True)
class CopySecret(Command[int]):
    """Add a copy of a path with its whole history under another name; as ``MoveSecret``."""

    kind = Kind.ALONE
    path: str
    to: str
    reseal: Reseal


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgeSecret(SecretCommand[int]):
    """Erase a path with its whole history, deleted or not. Answers what was its latest version.

    When it is answered nothing of its path, its metadata and its wrapped keys is in any file of the store, in
    no unused part of a page either.

    Attributes:
        latest: what its latest version has to be; None for any.

    Raises:
        NotFoundError: never written.
        HeadMovedError: ``latest`` is not the latest.
    """

    kind = Kind.WRITE
    erases = True
    rebuilds = True
    latest: int | None = None

    @property
    def effect(self) -> Effect:
        return Effect.EVICT
