"""The keys of the sealed state, and what is done with them; see ``sealed_state`` for what it is.

- An element is keyed BLAKE2b (RFC 7693) of a row's encoding, 32 bytes, taken as a big-endian number.
- The state is sealed as an ``envelope`` record of type ``STATE``, its key's version that of the root key, its
  record version 0: 8 bytes of commits and 32 of the sum, both big-endian. Its context is the store, and the
  path ``state``.
- BLAKE2b is libsodium's (``sodium``). A keyed hash object of Python has the key in the ordinary heap, and not
  every version of it wipes it there.
- The store's thread uses them, while another may give them up: ``in_use`` says which comes first. They are
  zero once both are done.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from keyholt_agent.keys.envelope import RecordType, bind, header_under, key_reference, open_into, seal
from keyholt_agent.keys.sodium import HASH_SIZE, sum_of_blake2b
from keyholt_agent.memory import Arena, Guarded, LockedBuffer
from keyholt_agent.sealed_state import State
from keyholt_protocol.errors import LockedError

if TYPE_CHECKING:
    from keyholt_agent.keys.randomness import Randomness

__all__ = ["StateKeys"]

_KEY_ID: Final = b"keyholt.rootseal"
_COMMITS: Final = slice(0, 8)
_TOTAL: Final = slice(8, 40)


class StateKeys(Guarded):
    """Both keys of one store, owned until ``release``."""

    def __init__(
        self,
        arena: Arena,
        store_id: bytes,
        element_key: LockedBuffer,
        seal_key: LockedBuffer,
        *,
        root_version: int,
        randomness: Randomness,
    ) -> None:
        self._element_key: Final = element_key
        self._seal_key: Final = seal_key
        self._plaintext: Final = arena.allocate(_TOTAL.stop, lasting=True)
        self._record: bytes | None = None  # whose plaintext that is
        self._context: Final = bind(store_id, "state")
        self._header: Final = header_under(key_reference(RecordType.STATE, _KEY_ID, root_version), 0)
        self._randomness: Final = randomness
        self._guard: Final = threading.Lock()
        self._users = 0
        self._given_up = False

    @contextmanager
    def in_use(self) -> Generator[None, None, None]:
        """Keep the keys until the block ends, whoever gives them up meanwhile; one thread uses them.

        Raises:
            LockedError: they were given up already.
        """
        self._take()
        try:
            yield
        finally:
            self._give_back()

    def add_up(self, rows: Iterable[bytes]) -> int:
        """The sum of the elements of rows; not reduced."""
        return sum_of_blake2b(self._element_key, rows)

    def seal(self, state: State) -> bytes:
        """The record of a state."""
        view, self._record = self._plaintext.view, None
        view[_COMMITS] = state.commits.to_bytes(8, "big")
        view[_TOTAL] = state.total.to_bytes(HASH_SIZE, "big")
        nonce = self._randomness.nonce()
        self._record = seal(self._seal_key.view, self._header, self._context, view, nonce)
        return self._record

    def open(self, sealed: bytes) -> State:
        """The state of a record.

        Raises:
            IntegrityError: it is not one that was sealed with these keys, for this store.
        """
        view = self._plaintext.view
        # It is opened most often by who sealed it: then nothing is decrypted.
        if sealed is not self._record:
            self._record = None
            open_into(self._seal_key.view, sealed, self._context, self._header, view)
            self._record = sealed
        return State(int.from_bytes(view[_TOTAL], "big"), int.from_bytes(view[_COMMITS], "big"))

    def release(self) -> None:
        """Give up the keys, which are zero as soon as nobody uses them; again is harmless."""
        with self._guard:
            self._given_up = True
            if not self._users:
                self._zero()

    def __repr__(self) -> str:
        return "<StateKeys>"

    def _take(self) -> None:
        with self._guard:
            if self._given_up:
                raise LockedError
            self._users += 1

    def _give_back(self) -> None:
        with self._guard:
            self._users -= 1
            if not self._users and self._given_up:
                self._zero()

    def _zero(self) -> None:
        for buffer in (self._element_key, self._seal_key, self._plaintext):
            buffer.release()
