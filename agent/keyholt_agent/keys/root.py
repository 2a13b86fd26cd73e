"""The root key and the two keys derived from it.

The root key is 32 random bytes. It seals nothing itself: keyslots wrap it, and it derives

- ``wrapping``: wraps master keys (AES-256-GCM);
- ``slot_mac``: authenticates the table of keyslots (HMAC-SHA-256);
- ``state``: two keys, which make and seal what the rows of the store add up to (``state_keys``).

Derivation is AES-256 under the root key in counter mode over zeroes, each derived key from a counter block
of its own: a pseudorandom function in counter mode as in NIST SP 800-108, 4.1, with the block cipher as the
function, the way RFC 8452, section 4, derives its keys. Two blocks a key, of at most 2^32, so the
difference between a permutation and a function is out of reach. It was chosen because it writes straight
into locked memory: HKDF of the same library left three copies of its output in the ordinary heap.

- All keys live in the arena from ``derive_from`` to ``release``, and nowhere else.
- It does not know keyslots, records or stores.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR

from keyholt_agent.keys.envelope import KEY_SIZE, RecordType, key_reference
from keyholt_agent.keys.state_keys import StateKeys
from keyholt_agent.keys.wrapping_key import SoftwareKey
from keyholt_agent.memory import Arena, Guarded, LockedBuffer

if TYPE_CHECKING:
    from keyholt_agent.keys.randomness import Randomness
    from keyholt_agent.keys.root_secret import RootSecret

__all__ = ["ROOT_WRAP_KEY", "RootKeys"]

ROOT_WRAP_KEY: Final = b"keyholt.rootwrap"
"""The key id, in the records of master keys, of the root-derived key that wraps them; its version there is
that of the root key.
"""

# Initial counter blocks: 12 bytes of label, and a 32-bit counter that two blocks a key never overflow.
_WRAP_LABEL: Final = b"keyholt wrap" + bytes(4)
_SLOT_MAC_LABEL: Final = b"keyholt slot" + bytes(4)
_ELEMENT_LABEL: Final = b"keyholt elem" + bytes(4)
_SEAL_LABEL: Final = b"keyholt seal" + bytes(4)


class RootKeys(Guarded):
    """The root key and what is derived from it; owns all of it until ``release``.

    Attributes:
        secret: what keyslots wrap.
        wrapping: wraps master keys.
        slot_mac: authenticates the slot table.
        state: of the sealed state.
    """

    __slots__ = ("_slot_mac", "secret", "state", "wrapping")

    def __init__(
        self, secret: RootSecret, wrapping: SoftwareKey, slot_mac: LockedBuffer, state: StateKeys
    ) -> None:
        self._slot_mac = slot_mac
        self.secret: Final = secret
        self.wrapping: Final = wrapping
        self.state: Final = state

    @property
    def slot_mac(self) -> memoryview:
        return self._slot_mac.view

    @classmethod
    def derive_from(
        cls, arena: Arena, secret: RootSecret, store_id: bytes, randomness: Randomness
    ) -> RootKeys:
        """Derive all keys of a store; owns ``secret``, and releases it where it raises."""
        root, version = secret.key.view, secret.version
        with ExitStack() as undo:
            undo.enter_context(secret)
            wrap = undo.enter_context(_derived(arena, root, _WRAP_LABEL))
            slot_mac = undo.enter_context(_derived(arena, root, _SLOT_MAC_LABEL))
            element = undo.enter_context(_derived(arena, root, _ELEMENT_LABEL))
            seal = undo.enter_context(_derived(arena, root, _SEAL_LABEL))
            state = StateKeys(arena, store_id, element, seal, root_version=version, randomness=randomness)
            undo.pop_all()
        reference = key_reference(RecordType.MASTER_KEY, ROOT_WRAP_KEY, version)
        return cls(secret, SoftwareKey(wrap, reference, randomness), slot_mac, state)

    def release(self) -> None:
        """Zero all of it, but what a commit under way still needs, and zeroes itself; again is harmless."""
        self.wrapping.release()
        self.state.release()
        self._slot_mac.release()
        self.secret.release()

    def __repr__(self) -> str:
        return "<RootKeys>"


def _derived(arena: Arena, root: memoryview, label: bytes) -> LockedBuffer:
    derived = arena.allocate(KEY_SIZE, lasting=True)
    try:
        Cipher(AES256(root), CTR(label)).encryptor().update_into(bytes(KEY_SIZE), derived.view)
    except BaseException:
        derived.release()
        raise
    return derived
