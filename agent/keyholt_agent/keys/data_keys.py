"""Unwrapped data keys of the secrets that are fetched most, so that a fetch is one opening.

- They lie in one block of locked memory, zeroed where a key leaves it and as a whole when the store is
  closed.
- A key is kept for a secret that says it may be (``Keyed.seat``), and is forgotten when that is told to be,
  or when its seat is needed: the second-chance clock takes it from one that was not used for a whole round.
- A data key opens one version of one secret; whoever could read this memory could read the master keys as
  well (docs/adr/0018).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from keyholt_agent.keys.envelope import KEY_SIZE
from keyholt_agent.memory import Guarded, wipe
from keyholt_protocol.errors import ResourceExhaustedError, TooLargeError

if TYPE_CHECKING:
    from keyholt_agent.memory import Arena, LockedBuffer

__all__ = ["NOT_KEPT", "UNSEATED", "DataKeys", "Keyed"]

MOST: Final = 96 * 1024
"""Keys, 3 MiB: a cache of the usual size holds no more secrets, so that none of them lacks a seat."""

ARENA_SHARE: Final = 8
"""At most one part in this many of the arena, so that a small one still holds values."""

NOT_KEPT: Final = -2
"""The seat of a secret whose data key is not to be kept: it is in no cache."""

UNSEATED: Final = -1
"""The seat of a secret whose data key may be kept, and is not here now."""

_ZEROES: Final = bytes(KEY_SIZE)


class Keyed(Protocol):
    """What has a data key; ``seat`` belongs to ``DataKeys``, which reads and writes it."""

    seat: int


class DataKeys(Guarded):
    """A bounded number of seats for unwrapped data keys; owns its memory until ``release``."""

    __slots__ = ("_block", "_hand", "_owners", "_seats", "_used", "_vacant", "_view")

    def __init__(self, arena: Arena) -> None:
        self._block = _allocate(arena, min(MOST, arena.size // ARENA_SHARE // KEY_SIZE))
        self._view = self._block.view
        self._seats = len(self._view) // KEY_SIZE
        self._owners: list[Keyed | None] = []  # by seat, as far as seats were ever taken
        self._used = bytearray(self._seats)  # since the hand last came by
        self._vacant: list[int] = []
        self._hand = 0

    def of(self, secret: Keyed) -> memoryview | None:
        """The data key of a secret, valid until the next call; None if it is not here."""
        seat = secret.seat
        if seat < 0:
            return None
        self._used[seat] = 1
        start = seat * KEY_SIZE
        return self._view[start : start + KEY_SIZE]

    def keep(self, secret: Keyed, key: memoryview) -> None:
        """Copy the data key of a secret in, if it may be kept."""
        if secret.seat != UNSEATED or not self._seats:
            return
        seat = self._take_seat()
        start = seat * KEY_SIZE
        self._view[start : start + KEY_SIZE] = key
        self._owners[seat] = secret
        secret.seat = seat

    def forget(self, secret: Keyed) -> None:
        """Zero the data key of a secret that has left its cache, and keep it no more."""
        seat, secret.seat = secret.seat, NOT_KEPT
        if seat >= 0:
            self._zero(seat)
            self._owners[seat] = None
            self._vacant.append(seat)

    def forget_all(self) -> None:
        """Zero every data key, and keep none of them any more."""
        if self._owners:
            wipe(self._view[: len(self._owners) * KEY_SIZE])
            self._give_up_seats()

    def release(self) -> None:
        """Zero the memory and give it back; again is harmless."""
        self._block.release()
        self._seats = 0
        self._give_up_seats()

    def __repr__(self) -> str:
        return f"<DataKeys {self._seats} seats>"

    def _take_seat(self) -> int:
        """A seat that was given up, or never taken, or else one that nobody used for a whole round."""
        if self._vacant:
            return self._vacant.pop()
        if len(self._owners) < self._seats:
            self._owners.append(None)
            return len(self._owners) - 1
        seat = self._next_unused()
        self._zero(seat)
        owner = self._owners[seat]
        if owner is not None:
            owner.seat = UNSEATED
        return seat

    def _next_unused(self) -> int:
        """Where the hand stops: what it passes was used, and has to be used again before it comes back."""
        used = self._used
        found = used.find(0, self._hand)
        if found < 0:
            used[self._hand :] = bytes(self._seats - self._hand)
            self._hand = 0
            found = max(used.find(0), 0)  # the first of all, if every one was used
        used[self._hand : found] = bytes(found - self._hand)
        self._hand = (found + 1) % self._seats
        return found

    def _zero(self, seat: int) -> None:
        start = seat * KEY_SIZE
        self._view[start : start + KEY_SIZE] = _ZEROES
        self._used[seat] = 0

    def _give_up_seats(self) -> None:
        for owner in self._owners:
            if owner is not None:
                owner.seat = NOT_KEPT
        self._owners.clear()
        self._vacant.clear()
        self._used[:] = bytes(len(self._used))


def _allocate(arena: Arena, seats: int) -> LockedBuffer:
    """A block for that many keys, or for fewer where the arena is full: a store opens all the same."""
    while True:
        try:
            return arena.allocate(seats * KEY_SIZE, lasting=True)
        except (ResourceExhaustedError, TooLargeError):
            if not seats:
                raise
            seats //= 2
