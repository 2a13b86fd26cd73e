"""Who owes something by when: a greeting, the rest of a frame, the taking of an answer.

Every debt is due the same time after it was made, so the order in which they are made is the order in which
they fall due: one task waits for the first, and a debt costs a dictionary's entry, not a timer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar

import trio

__all__ = ["Deadlines"]

Debtor = TypeVar("Debtor")


class Deadlines(Generic[Debtor]):
    """The debts of many debtors, one each at most.

    Args:
        seconds: from the making of a debt until it is due.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds: Final = seconds
        self._due: Final[dict[Debtor, float]] = {}  # in the order of what they hold, trio's seconds
        self._made: trio.Event | None = None

    def owe(self, debtor: Debtor) -> None:
        """Make a new debt, in the place of one that there may be."""
        self._due.pop(debtor, None)
        self._due[debtor] = trio.current_time() + self._seconds
        if self._made is not None:
            self._made.set()
            self._made = None

    def settle(self, debtor: Debtor) -> None:
        """The debt is paid, if there was one."""
        self._due.pop(debtor, None)

    async def run(self, overdue: Callable[[Debtor], None]) -> None:
        """Call ``overdue`` with each debtor whose debt falls due, until cancelled."""
        while True:
            while not self._due:
                self._made = trio.Event()
                await self._made.wait()
            await trio.sleep_until(next(iter(self._due.values())))
            now = trio.current_time()
            while self._due:
                debtor, due = next(iter(self._due.items()))
                if due > now:
                    break
                del self._due[debtor]
                overdue(debtor)
