"""Recipients and identities: whom something is wrapped to, and who unwraps it (age's two words).

A ``Recipient`` is a public key: nothing secret is needed to wrap to it. An ``Identity`` is what is needed to
unwrap: a keyslot's private key, while a passphrase was given for it.

The record is ``header | enc | ciphertext | tag``, with the header of ``envelope``, and of suite 2: HPKE's
base mode with X25519, HKDF-SHA256 and ChaCha20-Poly1305 (``hpke``).

======  =====  ==========  ==================================================
offset  bytes  field       meaning
======  =====  ==========  ==================================================
0       30     header      as in ``envelope``, with suite 2
30      32     enc         the encapsulated key (RFC 9180, section 4)
62      n      ciphertext  as long as the plaintext
62+n    16     tag
======  =====  ==========  ==================================================

The header and the ``Context``, for other records the additional authenticated data, are its ``info``.

Confirmation. Everybody may wrap to a public key, so that a record opens says nothing of who made it. Somebody
who can write the file and knows no passphrase could wrap a root key of their own to a keyslot, and put
beneath it a store that they have all the keys of. So an identity has a MAC key as well. With it, it confirms
what only those know who have unwrapped a root key of the same store: the confirmation secret (``confirm``).
The MAC is kept in clear, where the public key is; the secret comes wrapped with each root key, and is held
against it. It stays the same when the root key changes, so that this takes nothing of the keyslot's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from keyholt_agent.keys import hpke
from keyholt_agent.keys.sodium import HASH_SIZE, hmac_sha256
from keyholt_agent.memory import Owner, wipe
from keyholt_protocol.errors import IntegrityError

if TYPE_CHECKING:
    from keyholt_agent.keys.envelope import Context, Header
    from keyholt_agent.keys.randomness import Randomness
    from keyholt_agent.memory import Arena, LockedBuffer

__all__ = ["OVERHEAD", "PUBLIC_KEY_SIZE", "Identity", "Recipient"]

PUBLIC_KEY_SIZE: Final = hpke.KEY_SIZE

_HEADER_SIZE: Final = 30
_BODY: Final = _HEADER_SIZE + hpke.ENC_SIZE

OVERHEAD: Final = _BODY + hpke.OVERHEAD
"""Bytes by which a record is longer than its plaintext."""

_MAC_KEY_LABEL: Final = b"keyholt confirmation key v1"
_CONFIRMATION_LABEL: Final = b"keyholt confirmation v1\0"


class Recipient:
    """Whom something is wrapped to.

    Args:
        public_key: 32 bytes.
        randomness: where the ephemeral keys come from.
    """

    __slots__ = ("_arena", "_public_key", "_randomness")

    def __init__(self, arena: Arena, public_key: bytes, randomness: Randomness) -> None:
        self._arena = arena
        self._public_key = public_key
        self._randomness = randomness

    def wrap(self, header: Header, context: Context, plaintext: LockedBuffer) -> bytes:
        """The record of a plaintext.

        Raises:
            IntegrityError: the public key is not one.
        """
        info = header + context
        sealed = hpke.seal_base(self._arena, self._randomness, self._public_key, plaintext, info=info)
        return b"".join((header, *sealed))


class Identity(Owner):
    """Who unwraps: owns a private key and a MAC key until ``release`` or the end of a ``with``."""

    __slots__ = ("_arena", "_keys", "_mac_key")

    def __init__(self, arena: Arena, secret: LockedBuffer) -> None:
        """All follows from 32 secret bytes, which stay the caller's."""
        self._arena = arena
        self._mac_key = arena.allocate(HASH_SIZE)
        try:
            hmac_sha256(arena, secret, (_MAC_KEY_LABEL,), self._mac_key)
            self._keys = hpke.derive_key_pair(arena, secret)
        except BaseException:
            self._mac_key.release()
            raise

    @property
    def public_key(self) -> bytes:
        """What is wrapped to, 32 bytes."""
        return self._keys.public

    def unwrap(self, record: bytes, expected: Header, context: Context, target: LockedBuffer) -> None:
        """Open a record whose header must be ``expected`` into a target of the plaintext's length.

        Raises:
            IntegrityError: not what was wrapped to this key for that place; ``target`` is all zeroes.
        """
        if not record.startswith(expected) or len(record) != len(target) + OVERHEAD:
            wipe(target.view)
            raise IntegrityError("a wrapped root key does not belong to its keyslot; restore a backup")
        enc, sealed = record[_HEADER_SIZE:_BODY], record[_BODY:]
        hpke.open_base(self._arena, self._keys, enc, sealed, target, info=expected + context)

    def confirm(self, store_id: bytes, secret: LockedBuffer) -> bytes:
        """The MAC by which this identity knows a store's confirmation secret again; it is public."""
        with self._arena.allocate(HASH_SIZE) as mac:
            hmac_sha256(self._arena, self._mac_key, (_CONFIRMATION_LABEL, store_id, secret), mac)
            return bytes(mac.view)

    def release(self) -> None:
        """Zero both keys; again is harmless."""
        self._keys.private.release()
        self._mac_key.release()

    def __repr__(self) -> str:
        return "<Identity>"
