"""What keyslots hold: a version of the root key, and the secret that confirms it.

- Versions of the root key are numbered from 1. The number stands in the header of each wrapped root key
  (``envelope``), and is authentic once that has opened.
- The confirmation secret is made with the store and is the same for all versions. Nothing is encrypted with
  it: who has it has unwrapped a root key of this store, and that is all it says (``recipients``).
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from keyholt_agent.keys.envelope import KEY_SIZE
from keyholt_agent.memory import Owner

if TYPE_CHECKING:
    from keyholt_agent.keys.randomness import Randomness
    from keyholt_agent.memory import Arena, LockedBuffer

__all__ = ["ROOT_SECRET_SIZE", "RootSecret"]

ROOT_SECRET_SIZE: Final = 2 * KEY_SIZE
"""Bytes of both as they are wrapped: the root key, then the confirmation secret."""


class RootSecret(Owner):
    """A root key and the confirmation secret; owns both until ``release`` or the end of a ``with``.

    Attributes:
        version: of the root key, from 1.
        key: the root key, 32 bytes.
        confirmation: the confirmation secret, 32 bytes.
    """

    __slots__ = ("confirmation", "key", "version")

    def __init__(self, version: int, key: LockedBuffer, confirmation: LockedBuffer) -> None:
        self.version = version
        self.key = key
        self.confirmation = confirmation

    @classmethod
    def create(cls, arena: Arena, randomness: Randomness) -> RootSecret:
        """The first of a new store."""
        with ExitStack() as undo:
            key = undo.enter_context(_random(arena, randomness))
            confirmation = undo.enter_context(_random(arena, randomness))
            undo.pop_all()
        return cls(1, key, confirmation)

    def following(self, arena: Arena, randomness: Randomness) -> RootSecret:
        """The next version: a new root key, and the same confirmation secret."""
        with ExitStack() as undo:
            key = undo.enter_context(_random(arena, randomness))
            confirmation = undo.enter_context(arena.allocate(KEY_SIZE, lasting=True))
            undo.pop_all()
        confirmation.view[:] = self.confirmation.view
        return RootSecret(self.version + 1, key, confirmation)

    @classmethod
    def split(cls, arena: Arena, version: int, plaintext: LockedBuffer) -> RootSecret:
        """The parts of what was wrapped, copied out of it."""
        with ExitStack() as undo:
            key = undo.enter_context(arena.allocate(KEY_SIZE, lasting=True))
            confirmation = undo.enter_context(arena.allocate(KEY_SIZE, lasting=True))
            undo.pop_all()
        key.view[:] = plaintext.view[:KEY_SIZE]
        confirmation.view[:] = plaintext.view[KEY_SIZE:]
        return cls(version, key, confirmation)

    def join(self, plaintext: LockedBuffer) -> None:
        """Write both parts one after the other, as they are wrapped."""
        plaintext.view[:KEY_SIZE] = self.key.view
        plaintext.view[KEY_SIZE:] = self.confirmation.view

    def release(self) -> None:
        """Zero both; again is harmless."""
        self.key.release()
        self.confirmation.release()

    def __repr__(self) -> str:
        return f"<RootSecret version {self.version}>"


def _random(arena: Arena, randomness: Randomness) -> LockedBuffer:
    key = arena.allocate(KEY_SIZE, lasting=True)
    randomness.fill(key)
    return key
