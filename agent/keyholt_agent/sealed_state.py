"""The sealed state: what the rows of a store add up to, and who can tell without being fooled.

AEAD says of a row that it is genuine, not that it is the newest, nor that none is missing. So every row that
decides what is served or believed is an element of a keyed multiset. The sum of the elements is kept under
seal, and moves in the same transaction as the rows. A store whose rows do not add up to what is sealed is not
as the agent left it.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Final, NamedTuple, Protocol

__all__ = ["MODULUS", "CheckProgress", "PartialSum", "State", "StateKeeper"]

MODULUS: Final = 2**256
"""What sums are taken modulo (MSet-Add-Hash: Clarke, Devadas, van Dijk, Gassend, Suh, ASIACRYPT 2003)."""


class State(NamedTuple):
    """What is sealed.

    Attributes:
        total: the sum of all elements, below ``MODULUS``.
        commits: how many transactions have moved it: of two states of a store the later one has more.
    """

    total: int
    commits: int


class PartialSum(NamedTuple):
    """What some of the rows add up to.

    Attributes:
        total: below ``MODULUS``.
        rows: how many they are.
        after: where to go on; None if there are no more.
    """

    total: int
    rows: int
    after: tuple[int, int] | None


class CheckProgress(NamedTuple):
    """How far the adding up of a store has come: ``done`` of so many ``rows``, about."""

    done: int
    rows: int


class StateKeeper(Protocol):
    """Has the keys of the sealed state. The store's thread calls it, all but ``in_use`` inside of that."""

    def in_use(self) -> AbstractContextManager[None]:
        """Keep the keys until the block ends, whoever gives them up meanwhile.

        Raises:
            LockedError: they were given up already.
        """
        ...

    def add_up(self, rows: Iterable[bytes]) -> int:
        """The sum of the elements of rows, not reduced; each is a pseudorandom function of the row's
        encoding, below ``MODULUS``.
        """
        ...

    def seal(self, state: State) -> bytes:
        """The record of a state."""
        ...

    def open(self, sealed: bytes) -> State:
        """The state of a record.

        Raises:
            IntegrityError: it is not one that was sealed with these keys, for this store.
        """
        ...
