"""The sealed state in the hands of the store's thread: checked at an unlock, moved with every transaction.

- The sealed record moves within the transaction of the rows: what is committed is always a whole state.
- The record is replaced where it is the one that was committed last. So whoever set it back, with rows that
  add up to it, is found while the agent runs. Of a store that was set back as a whole while it was closed
  nothing inside of it can tell.
- What was committed last is not known after a failure: then the record is read, and may be no older than the
  last that is known.
- The keys stay in use from before a transaction begins until its commit has returned: who locks meanwhile
  gives them up with it, and nothing is committed after.
- Before other keys come into force, they add up all rows while the store serves on (``Successor``).
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final

from keyholt_agent.sealed_state import MODULUS, PartialSum, State, StateKeeper
from keyholt_agent.store.sqlite import elements, keys, sql
from keyholt_agent.store.sqlite.transaction import Transaction
from keyholt_protocol.errors import ContentionError, IntegrityError, LockedError

if TYPE_CHECKING:
    from keyholt_agent.store.key_commands import AddUp, Cover, PutInForce
    from keyholt_agent.store.sqlite.database import Database

__all__ = ["Sealing", "add_up"]


class Successor:
    """Keys that are to come into force, and what they have added up so far.

    What is written meanwhile counts if it lies before the place that the adding up has come to: what lies
    behind is still to be read. Rows of the small tables are not added up: they are all written anew when the
    keys change.
    """

    def __init__(self, keeper: StateKeeper, before: StateKeeper) -> None:
        self.keeper: Final = keeper
        self.before: Final = before
        self.total = 0
        self.total_before = 0  # of the same rows, with the keys in force: they have to be what those sealed
        self._following: tuple[int, int] | None = (elements.HEADS, 0)
        self._covered = elements.place(elements.HEADS, 0)

    @property
    def done(self) -> bool:
        """Whether all rows are added up."""
        return self._following is None

    def cover(self, transaction: Transaction, most: int) -> int:
        """Add up more rows; gives how many."""
        if self._following is None:
            return 0
        found, self._following = _stretch(transaction, self._following, most)
        self.total += self.keeper.add_up(found)
        self.total_before += self.before.add_up(found)
        self._covered = elements.END if self._following is None else elements.place(*self._following)
        return len(found)

    def change(self, transaction: Transaction) -> tuple[int, int]:
        """What a transaction's rows come to, as far as they count, with both keys."""
        added, removed = self._counted(transaction.added), self._counted(transaction.removed)
        return (
            self.keeper.add_up(added) - self.keeper.add_up(removed),
            self.before.add_up(added) - self.before.add_up(removed),
        )

    def _counted(self, rows: list[bytes]) -> list[bytes]:
        first = elements.place(elements.HEADS, 0)
        return [row for row in rows if first <= row[: elements.PLACE] <= self._covered]


class Sealing:
    """Whose keys are in force, and how far the state has come with them."""

    def __init__(self) -> None:
        self._keeper: StateKeeper | None = None
        self._commits = 0  # in the record that is known to be committed last
        self._record: bytes | None = None  # that record; None if another may have been committed since
        self._successor: Successor | None = None

    @contextmanager
    def writing(self, database: Database) -> Generator[Transaction, None, None]:
        """A transaction with which the state moves: committed when the block ends, rolled back if it raises.

        Raises:
            LockedError: nobody has the keys.
            IntegrityError: the sealed record was changed or set back.
        """
        keeper = self._in_force()
        with ExitStack() as in_use:
            in_use.enter_context(keeper.in_use())
            successor = self._entered(in_use)
            with database.transaction() as connection:
                transaction = Transaction(connection)
                yield transaction
                if not transaction.changed:
                    return
                covered = (0, 0) if successor is None else successor.change(transaction)
                difference = keeper.add_up(transaction.added) - keeper.add_up(transaction.removed)
                before, record = self._sealed(transaction, keeper)
                state = State((before.total + difference) % MODULUS, before.commits + 1)
                sealed = self._seal(transaction, keeper, record, state)
            self._commits, self._record = state.commits, sealed
            if successor is not None:
                successor.total += covered[0]
                successor.total_before += covered[1]

    @contextmanager
    def replacing(self, database: Database, keeper: StateKeeper) -> Generator[Transaction, None, None]:
        """A transaction that writes all rows of the small tables anew, and leaves these keys in force.

        Raises:
            LockedError: nobody has the keys in force, or the new ones were given up.
            ContentionError: the new keys have not added up all rows, or an error came between.
        """
        before, successor = self._in_force(), self._successor
        if successor is None or successor.keeper is not keeper or not successor.done:
            raise ContentionError("the store failed while its rows were added up; try again")
        with before.in_use(), keeper.in_use():
            with database.transaction() as connection:
                transaction = Transaction(connection)
                state, record = self._sealed(transaction, before)
                small = before.add_up(keys.rows_of_store(transaction))
                if (successor.total_before + small) % MODULUS != state.total:
                    raise _changed()
                yield transaction
                if not transaction.changed:
                    return
                total = successor.total + keeper.add_up(transaction.added)
                state = State(total % MODULUS, state.commits + 1)
                sealed = self._seal(transaction, keeper, record, state)
            self._take(keeper, state.commits, sealed)

    def put_in_force(self, transaction: Transaction, asked: PutInForce) -> None:
        """Take the keys into force if the rows add up to what they sealed."""
        with asked.keeper.in_use():
            state, record = self._stored(transaction, asked.keeper)
        if state.total != asked.total % MODULUS:
            raise _changed()
        self._take(asked.keeper, state.commits, record)

    def cover(self, transaction: Transaction, asked: Cover) -> int | None:
        """Have keys that are to come into force add up more rows."""
        before = self._in_force()
        if self._successor is None or self._successor.keeper is not asked.keeper:
            self._successor = Successor(asked.keeper, before)
        with before.in_use(), asked.keeper.in_use():
            rows = self._successor.cover(transaction, asked.most)
        return None if self._successor.done else rows

    def begin(self, keeper: StateKeeper) -> None:
        """Take the keys of a store into force that was just made."""
        self._take(keeper, 0, None)

    def failed(self) -> None:
        """What was committed last is not known: what was added up beside it is worth nothing."""
        self._record = self._successor = None

    def _take(self, keeper: StateKeeper, commits: int, record: bytes | None) -> None:
        self._keeper, self._commits, self._record, self._successor = keeper, commits, record, None

    def _in_force(self) -> StateKeeper:
        if self._keeper is None:
            raise LockedError
        return self._keeper

    def _entered(self, in_use: ExitStack) -> Successor | None:
        """The successor, whose keys are in use as long; none if they were given up."""
        if self._successor is not None:
            try:
                in_use.enter_context(self._successor.keeper.in_use())
            except LockedError:
                self._successor = None
        return self._successor

    def _sealed(self, transaction: Transaction, keeper: StateKeeper) -> tuple[State, bytes]:
        """The state that was committed last, and its record."""
        if self._record is None:
            return self._stored(transaction, keeper)
        return keeper.open(self._record), self._record

    def _stored(self, transaction: Transaction, keeper: StateKeeper) -> tuple[State, bytes]:
        """The state that the store has, and its record."""
        (record,) = transaction.execute(sql.SEALED).fetchone()
        state = keeper.open(record)
        if state.commits < self._commits:
            raise IntegrityError("the store was set back while the agent had it open; restore a backup")
        return state, record

    def _seal(self, transaction: Transaction, keeper: StateKeeper, before: bytes, state: State) -> bytes:
        """Put the record of a state in the place of another, and give it."""
        sealed = keeper.seal(state)
        if transaction.execute(sql.SEAL, {"before": before, "sealed": sealed}).rowcount != 1:
            self._stored(transaction, keeper)
            raise _changed()
        return sealed


def _changed() -> IntegrityError:
    return IntegrityError(
        "the store is not as the agent left it: rows of it were changed, set back, removed or added "
        "by something else; restore a backup"
    )


def add_up(transaction: Transaction, asked: AddUp) -> PartialSum:
    """Add up the rows of the small tables together, then those of the others, a stretch at a time."""
    following: tuple[int, int] | None = (elements.HEADS, 0)
    if asked.after is None:
        found = list(keys.rows_of_store(transaction))
    else:
        found, following = _stretch(transaction, asked.after, asked.most)
    with asked.keeper.in_use():
        total = asked.keeper.add_up(found)
    return PartialSum(total % MODULUS, len(found), following)


def _stretch(
    transaction: Transaction, after: tuple[int, int], most: int
) -> tuple[list[bytes], tuple[int, int] | None]:
    """Up to so many rows of a table, encoded, from after one on; and where to go on."""
    table, row = after
    statement, encode = _TABLES[table]
    rows = transaction.execute(statement, {"after": row, "limit": most}).fetchall()
    found = [encode(one) for one in rows]
    if len(rows) == most:
        return found, (table, rows[-1][0])
    return found, (elements.VERSIONS, 0) if table == elements.HEADS else None


_TABLES: Final[dict[int, tuple[str, Callable[[Any], bytes]]]] = {
    elements.HEADS: (sql.HEADS, elements.head),
    elements.VERSIONS: (sql.VERSIONS, elements.version),
}
