"""What can be asked of the store: one frozen class a command, with what it answers and what refuses it.

Here are those on the store as a whole and on single versions of secrets; ``path_commands`` has those on all
that a path has, ``key_commands`` the others. They are the seam between the store and its back end. Whoever
asks knows no SQL; a back end answers each class and knows nothing of who asks.

- A refusal (``KeyholtError``) is an answer, and has changed nothing. Beside those that a command lists there
  is always ``StoreUnavailableError``, and ``UninitialisedError`` where there is no store yet.
- Times are whole seconds since the epoch, given by the caller: the store reads no clock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, ClassVar, Final, Generic, Self, TypeVar

from keyholt_agent.sealed_state import StateKeeper
from keyholt_agent.store.rows import (
    Counts,
    Head,
    Newest,
    NewVersion,
    SecretPage,
    SecretVersion,
    StoreSeed,
    VersionSummary,
)

__all__ = [
    "SMALL_VALUE",
    "AnyAnswer",
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
    "ReadHistory",
    "ReadNewest",
    "ReadSecret",
    "SecretCommand",
    "UndeleteSecret",
]

T_co = TypeVar("T_co", covariant=True)

SMALL_VALUE: Final = 512 * 1024
"""Bytes of a value up to which it is read beside others: 64 such reads fill a batch."""


class Kind(Enum):
    """How a command is run, in the order in which the kinds of one batch are.

    One that is run alone has a transaction of its own: where it is refused, all that it wrote is taken back.
    """

    CREATE = auto()
    READ = auto()
    WRITE = auto()
    ALONE = auto()


class Effect(Enum):
    """What a command that succeeded means for who keeps latest versions: its answer is one, or was."""

    NONE = auto()
    KEEP = auto()
    EVICT = auto()


class Command(Generic[T_co]):
    """One thing asked of the store; ``T_co`` is what it answers.

    Attributes:
        kind: reads may be run in any order; writes keep theirs.
        erases: whether the old bytes must be gone from every file of the store before the answer.
        rebuilds: whether that goes for bytes that may lie in unused parts of any page.
        weight: bytes that it may hold in memory, for the bound of a batch.
    """

    __slots__ = ()
    kind: ClassVar[Kind] = Kind.READ
    erases: ClassVar[bool] = False
    rebuilds: ClassVar[bool] = False

    @property
    def weight(self) -> int:
        return 0

    @property
    def evicts(self) -> tuple[str, ...]:
        """Paths of which nothing that was known holds any more, once it has succeeded."""
        return ()

    @classmethod
    def answered_by(cls, function: Callable[[Any, Self], T_co]) -> tuple[type[AnyCommand], AnyAnswer]:
        """Bind a back end's function to this class; one for another class is an error of types."""
        return cls, function


AnyAnswer = Callable[[Any, Any], Any]
"""Takes what the back end works with, inside a transaction, and a command; gives its answer."""

AnyCommand = Command[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretCommand(Command[T_co]):
    """A command on one secret, whose latest version may be kept in memory."""

    path: str

    @property
    def effect(self) -> Effect:
        return Effect.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateStore(Command[None]):
    """Make the store, whole or not at all, its state sealed by ``keeper``, which is in force from then on.

    Raises:
        AlreadyExistsError: there is one; it is left as it is.
    """

    kind = Kind.CREATE
    seed: StoreSeed
    keeper: StateKeeper


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadSecret(SecretCommand[SecretVersion | None]):
    """One version of a live secret, None for the latest; answers None for a value over ``most`` bytes.

    Raises:
        NotFoundError: never written, deleted, or no such version; the message says which.
    """

    version: int | None
    most: int = SMALL_VALUE

    @property
    def weight(self) -> int:
        return self.most

    @property
    def effect(self) -> Effect:
        return Effect.KEEP if self.version is None else Effect.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadNewest(Command[Newest]):
    """Where a path stands, and its latest version without the value; of a deleted one too."""

    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PutSecret(SecretCommand[SecretVersion]):
    """Write a version if it is the next of its path, which takes a tombstone away; answers what is stored.

    Attributes:
        deleted: whether the path, if there is one, has to be deleted; None for either.

    Raises:
        HeadMovedError: ``new.version`` is not the next, or ``deleted`` not so; it has the newest.
        NotFoundError: there is no such master key version.
        MasterRetiredError: it is not the active one.
    """

    kind = Kind.WRITE
    new: NewVersion
    deleted: bool | None = None

    @property
    def weight(self) -> int:
        return len(self.new.value) + len(self.new.metadata)

    @property
    def effect(self) -> Effect:
        return Effect.KEEP


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteSecret(SecretCommand[int]):
    """Put a tombstone on a live path; its versions stay. Answers the latest version.

    Raises:
        NotFoundError: never written, or deleted already.
    """

    kind = Kind.WRITE
    deleted_at: int

    @property
    def effect(self) -> Effect:
        return Effect.EVICT


@dataclass(frozen=True, slots=True, kw_only=True)
class UndeleteSecret(SecretCommand[int]):
    """Take the tombstone away again. Answers the latest version, which is in force again.

    Raises:
        NotFoundError: never written.
        AlreadyExistsError: not deleted.
    """

    kind = Kind.WRITE


@dataclass(frozen=True, slots=True, kw_only=True)
class DestroyVersion(SecretCommand[None]):
    """Destroy a version for good, of a deleted secret too; again is no error.

    When it is answered the wrapped key is in no file of the store.

    Raises:
        NotFoundError: no such path or version.
    """

    kind = Kind.WRITE
    erases = True
    version: int

    @property
    def effect(self) -> Effect:
        return Effect.EVICT


@dataclass(frozen=True, slots=True, kw_only=True)
class ListSecrets(Command[SecretPage]):
    """Up to ``limit`` live secrets that begin with ``prefix`` and come after ``after``, by code points.

    Fewer, but two if there are so many, once they come to ``LISTING_BYTES``. A path that is no text, which
    only damage makes, has lone surrogates in it.
    """

    prefix: str
    after: str | None
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadHistory(Command[tuple[Head, list[VersionSummary]]]):
    """The head and up to ``limit`` versions below ``before``, newest first; of a deleted secret too.

    Fewer, but two if there are so many, once they come to ``LISTING_BYTES``.

    Raises:
        NotFoundError: never written.
    """

    path: str
    before: int | None
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CountSecrets(Command[Counts]):
    """How much there is; no row of a live secret is read for it."""
