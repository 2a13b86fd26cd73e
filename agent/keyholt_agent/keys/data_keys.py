"""Unwrapped data keys of the secrets that are fetched most, so that a fetch is one opening.

- They lie in one block of locked memory, zeroed where a key leaves it and as a whole when the store is
  closed.
- A key is kept for a secret that says it may be (``Keyed.seat``), and is forgotten when that is told to be,
  or when its seat is needed: the second-chance clock takes it from one that was not used for a whole round.
- A data key opens one version of one secret; whoever could read this memory could read the master keys as
  well (docs/threat-model.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from keyholt_agent.keys.envelope import KEY_SIZE
from keyholt_agent.memory import Guarded

if TYPE_CHECKING:
    from keyholt_agent.memory import Arena

__all__ = ["NOT_KEPT", "UNSEATED", "DataKeys", "Keyed"]

MOST: Final = 4096
"""Keys: 128 KiB of locked memory."""

ARENA_SHARE: Final = 64
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
    """A fixed number of seats for unwrapped data keys; owns its memory until ``release``."""

    __slots__ = ("_block", "_hand", "_owners", "_used", "_view")

    def __init__(self, arena: Arena) -> None:
        seats = min(MOST, arena.size // ARENA_SHARE // KEY_SIZE)
        self._block = arena.allocate(seats * KEY_SIZE)
        self._view = self._block.view
        self._owners: list[Keyed | None] = [None] * seats
        self._used = bytearray(seats)  # since the hand last came by
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
        if secret.seat != UNSEATED:
            return
        seat = self._free_seat()
        start = seat * KEY_SIZE
        self._view[start : start + KEY_SIZE] = key
        self._owners[seat] = secret
        secret.seat = seat

    def forget(self, secret: Keyed) -> None:
        """Zero the data key of a secret that has left its cache, and keep it no more."""
        if secret.seat >= 0:
            self._vacate(secret.seat)
        secret.seat = NOT_KEPT

    def forget_all(self) -> None:
        """Zero every data key."""
        for seat, owner in enumerate(self._owners):
            if owner is not None:
                self._vacate(seat)

    def release(self) -> None:
        """Zero the memory and give it back; again is harmless."""
        self._owners.clear()
        self._block.release()

    def __repr__(self) -> str:
        return f"<DataKeys {len(self._owners)} seats>"

    def _free_seat(self) -> int:
        """The next seat that nobody used since the hand last came by; at most one round and a step."""
        used, seats = self._used, len(self._owners)
        while used[self._hand]:
            used[self._hand] = 0
            self._hand = (self._hand + 1) % seats
        seat, self._hand = self._hand, (self._hand + 1) % seats
        if self._owners[seat] is not None:
            self._vacate(seat)
        return seat

    def _vacate(self, seat: int) -> None:
        owner, self._owners[seat] = self._owners[seat], None
        if owner is not None:
            owner.seat = UNSEATED
        self._used[seat] = 0
        start = seat * KEY_SIZE
        self._view[start : start + KEY_SIZE] = _ZEROES
