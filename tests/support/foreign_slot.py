"""A keyslot that somebody else makes, who knows its passphrase and the root key in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyholt_agent.keys import kdf
from keyholt_agent.keys.keyslots import (
    PassphraseSource,
    complete_slot,
    derive_identity,
    passphrase_slot,
    wrap_root,
)
from keyholt_agent.keys.randomness import KERNEL
from keyholt_agent.keys.root_secret import RootSecret

if TYPE_CHECKING:
    from keyholt_agent.keys.keyslots import Keyslot, StoredKeyslot
    from keyholt_agent.memory import Arena

__all__ = ["foreign_slot"]


def foreign_slot(
    arena: Arena, name: str, passphrase: bytes, store_id: bytes
) -> tuple[Keyslot, StoredKeyslot]:
    """A keyslot around a root key of its maker's own, right in itself."""
    draft = passphrase_slot(name, 1, kdf.FLOOR, KERNEL)
    with (
        derive_identity(arena, draft, PassphraseSource(memoryview(passphrase))) as identity,
        RootSecret.create(arena, KERNEL) as root,
    ):
        slot = complete_slot(draft, identity, root, store_id)
        return slot, wrap_root(arena, slot, root, store_id, KERNEL)
