"""A process that lives a life with keys, for ``test_leaks`` to search its memory.

It reads the passphrase, the root key and a secret from stdin straight into locked memory, does with them all
that an agent does, and says what is public in JSON. After each line it waits to be told to go on.
"""

from __future__ import annotations

import json
import os
import sys

from keyholt_agent.hardening import harden
from keyholt_agent.keys.hierarchy import DEFAULT_MASTER, ReserveWraps, create_master_key
from keyholt_agent.keys.kdf import FLOOR
from keyholt_agent.keys.keyring import Keyring
from keyholt_agent.keys.root import RootKeys
from keyholt_agent.keys.slots import (
    PassphraseSource,
    derive_slot_key,
    open_slot,
    passphrase_slot,
    seal_slot,
    table_mac,
)
from keyholt_agent.memory import Arena, LockedBuffer, MemorySettings

STORE_ID = bytes(range(16))
ROUNDS = 2000


def read_in(arena: Arena, size: int) -> LockedBuffer:
    """What the parent sends, into locked memory."""
    buffer = arena.allocate(size)
    assert os.readv(0, [buffer.view]) == size
    say({})
    return buffer


def say(public: dict[str, object]) -> None:
    """One line to the parent."""
    os.write(1, json.dumps(public).encode() + b"\n")


def wait() -> None:
    """Until the parent says to go on."""
    os.read(0, 1)


def unlock(arena: Arena, keyring: Keyring) -> dict[str, object]:
    """Seal the root key with the passphrase, open it again, install it, and forget both."""
    with read_in(arena, 40) as passphrase, read_in(arena, 32) as root:
        slot = passphrase_slot("main", 1, FLOOR)
        with derive_slot_key(arena, slot, PassphraseSource(passphrase.view)) as slot_key:
            sealed = seal_slot(slot, slot_key.view, root.view, STORE_ID)
            keys = RootKeys.derive_from(arena, open_slot(arena, sealed, slot_key.view, STORE_ID))
            mac = table_mac(keys.slot_mac, STORE_ID, [sealed])
            master = create_master_key(arena, keys.wrap, STORE_ID, name=DEFAULT_MASTER, version=1)
            keys.release()
            opened = open_slot(arena, sealed, slot_key.view, STORE_ID)
        keyring.install(opened, store_id=STORE_ID, slots=[sealed], table_mac=mac, master_keys=[master])
    return {
        "salt": slot.parameters[-16:].hex(),
        "key_id": master.key_id.hex(),
        "master": master.wrapped.hex(),
    }


def use(arena: Arena, keyring: Keyring) -> list[str]:
    """Seal and open a secret many times; the wrapped data keys of the last rounds."""
    wrapped: list[str] = []
    with read_in(arena, 48) as secret:
        for version in range(1, ROUNDS + 1):
            need = keyring.wrap_need()
            if isinstance(need, ReserveWraps):
                keyring.wraps_granted(need)
            sealed = keyring.seal_secret("a/b", version, b"", secret.view)
            with keyring.open_secret("a/b", version, b"", sealed.wrapped_key, sealed.value) as opened:
                assert opened.view == secret.view
            wrapped.append(sealed.wrapped_key.hex())
    return wrapped[-3:]


def main() -> None:
    """Unlock, use, wait; lock, wait."""
    harden()
    arena = Arena.open(MemorySettings(backend="mlock" if sys.argv[1] == "mlock" else "memfd_secret"))
    keyring = Keyring(arena)
    public = unlock(arena, keyring)
    say({**public, "wrapped": use(arena, keyring)})
    wait()
    keyring.lock()
    say({"used": arena.usage.used})
    wait()


main()
