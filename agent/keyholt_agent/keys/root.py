"""The root key and the two keys derived from it.

The root key is 32 random bytes. It seals nothing itself: keyslots wrap it, and it derives

- ``wrapping``: wraps master keys (AES-256-GCM);
- ``slot_mac``: authenticates the table of keyslots (HMAC-SHA-256).

Derivation is AES-256 under the root key in counter mode over zeroes, each derived key from a counter block
of its own: a pseudorandom function in counter mode as in NIST SP 800-108, 4.1, with the block cipher as the
function, the way RFC 8452, section 4, derives its keys. Two blocks a key, of at most 2^32, so the
difference between a permutation and a function is out of reach. It was chosen because it writes straight
into locked memory: HKDF of the same library left three copies of its output in the ordinary heap.

- The three keys live in the arena from ``derive_from`` to ``release``, and nowhere else.
- It does not know keyslots, records or stores.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR

from keyholt_agent.keys.envelope import KEY_SIZE, RecordType, key_reference
from keyholt_agent.keys.randomness import Randomness
from keyholt_agent.keys.wrapping_key import SoftwareKey
from keyholt_agent.memory import Arena, Guarded, LockedBuffer

__all__ = ["ROOT_WRAP_KEY", "RootKeys", "create_root"]

ROOT_WRAP_KEY: Final = b"keyholt.rootwrap"
"""The key id, in the records of master keys, of the root-derived key that wraps them."""

_ROOT_WRAP_VERSION: Final = 1

# Initial counter blocks: 12 bytes of label, and a 32-bit counter that two blocks a key never overflow.
_WRAP_LABEL: Final = b"keyholt wrap" + bytes(4)
_SLOT_MAC_LABEL: Final = b"keyholt slot" + bytes(4)


class RootKeys(Guarded):
    """The root key and what is derived from it; owns all three until ``release``.

    Attributes:
        root: what keyslots wrap.
        wrapping: wraps master keys.
        slot_mac: authenticates the slot table.
    """

    __slots__ = ("_buffers", "root", "slot_mac", "wrapping")

    def __init__(self, root: LockedBuffer, wrapping: SoftwareKey, slot_mac: LockedBuffer) -> None:
        self._buffers = (root, slot_mac)
        self.root: Final = root.view
        self.wrapping: Final = wrapping
        self.slot_mac: Final = slot_mac.view

    @classmethod
    def derive_from(cls, arena: Arena, root: LockedBuffer, randomness: Randomness) -> RootKeys:
        """Derive both keys; owns ``root``, and releases it where it raises."""
        with ExitStack() as undo:
            undo.enter_context(root)
            wrap = undo.enter_context(_derived(arena, root.view, _WRAP_LABEL))
            slot_mac = undo.enter_context(_derived(arena, root.view, _SLOT_MAC_LABEL))
            undo.pop_all()
        reference = key_reference(RecordType.MASTER_KEY, ROOT_WRAP_KEY, _ROOT_WRAP_VERSION)
        return cls(root, SoftwareKey(wrap, reference, randomness), slot_mac)

    def release(self) -> None:
        """Zero all three; again is harmless."""
        self.wrapping.release()
        for buffer in self._buffers:
            buffer.release()

    def __repr__(self) -> str:
        return "<RootKeys>"


def create_root(arena: Arena, randomness: Randomness) -> LockedBuffer:
    """A new root key; the caller's to release."""
    root = arena.allocate(KEY_SIZE)
    randomness.fill(root)
    return root


def _derived(arena: Arena, root: memoryview, label: bytes) -> LockedBuffer:
    derived = arena.allocate(KEY_SIZE)
    try:
        Cipher(AES256(root), CTR(label)).encryptor().update_into(bytes(KEY_SIZE), derived.view)
    except BaseException:
        derived.release()
        raise
    return derived
