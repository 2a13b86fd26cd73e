"""What a key is: something that wraps other keys and unwraps them. Where it lives is its own business.

The one shape of everything that other keys hang on: the root-derived key that wraps master keys, the versions
of master keys, the keys of keyslots. No caller ever holds the key itself (age's ``Recipient`` and
``Identity``).

- ``wrap`` gives a record that names the key (``envelope``), ``unwrap`` takes one whose name says so.
- A key in a token needs time, so both may give an awaitable; one in locked memory answers at once, and
  nothing is awaited for it.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Protocol

from keyholt_agent.keys.envelope import Context, KeyReference, header_under, open_into, seal
from keyholt_agent.memory import LockedBuffer, Owner

if TYPE_CHECKING:
    from keyholt_agent.keys.randomness import Randomness

__all__ = ["SoftwareKey", "WrappingKey"]


class WrappingKey(Protocol):
    """A key that wraps 32-byte keys.

    In both methods ``version`` is that of the wrapped key, and ``context`` the place where the record
    belongs.
    """

    def wrap(self, version: int, context: Context, key: memoryview) -> bytes | Awaitable[bytes]:
        """The wrapped form of ``key``, which lies in locked memory until the answer is there."""
        ...

    def unwrap(
        self, wrapped: bytes, version: int, context: Context, target: memoryview
    ) -> Awaitable[None] | None:
        """Write the key into ``target``, locked memory that stays until the answer is there.

        Raises:
            IntegrityError: not what this key wrapped for that place; ``target`` is all zeroes.
        """
        ...

    def release(self) -> None:
        """Give up the key; again is harmless."""
        ...


class SoftwareKey(Owner):
    """A key in locked memory, which it owns until ``release`` or the end of a ``with``.

    Args:
        key: the key, 32 bytes.
        reference: how the records that it seals begin.
        randomness: where nonces come from.
    """

    __slots__ = ("_key", "_randomness", "_reference")

    def __init__(self, key: LockedBuffer, reference: KeyReference, randomness: Randomness) -> None:
        self._key = key
        self._reference = reference
        self._randomness = randomness

    def wrap(self, version: int, context: Context, key: memoryview) -> bytes:
        header = header_under(self._reference, version)
        return seal(self._key.view, header, context, key, self._randomness.nonce())

    def unwrap(self, wrapped: bytes, version: int, context: Context, target: memoryview) -> None:
        open_into(self._key.view, wrapped, context, header_under(self._reference, version), target)

    def release(self) -> None:
        self._key.release()

    def __repr__(self) -> str:
        return "<SoftwareKey>"
