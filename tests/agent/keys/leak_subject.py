"""A process that lives a life with keys, for ``test_leaks`` to search its memory.

It reads the passphrase, the root key and a secret from stdin straight into locked memory, does with them all
that an agent does, and says what is public in JSON. After each line it waits to be told to go on.
"""

from __future__ import annotations

import json
import os
import sys

from keyholt_agent.hardening import harden
from keyholt_agent.keys.custody import SoftwareCustody
from keyholt_agent.keys.data_keys import UNSEATED
from keyholt_agent.keys.envelope import bind
from keyholt_agent.keys.kdf import FLOOR
from keyholt_agent.keys.keyring import Keyring
from keyholt_agent.keys.keyslots import (
    PassphraseSource,
    derive_slot_key,
    open_slot,
    passphrase_slot,
    seal_slot,
    table_mac,
)
from keyholt_agent.keys.master_key import ReserveWraps
from keyholt_agent.keys.randomness import KERNEL
from keyholt_agent.keys.root import RootKeys
from keyholt_agent.keys.secrets import OpenableSecret, SealedSecret
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


def unlock(arena: Arena) -> tuple[Keyring, dict[str, object]]:
    """Seal the root key with the passphrase, open it again, and forget both."""
    with read_in(arena, 40) as passphrase, read_in(arena, 32) as root:
        slot = passphrase_slot("main", 1, FLOOR, KERNEL)
        with derive_slot_key(arena, slot, PassphraseSource(passphrase.view), KERNEL) as slot_key:
            sealed = seal_slot(slot, slot_key, root.view, STORE_ID)
            keys = RootKeys.derive_from(arena, open_slot(arena, sealed, slot_key, STORE_ID), KERNEL)
            mac = table_mac(keys.slot_mac, STORE_ID, [sealed])
            custody = SoftwareCustody(arena, keys.wrapping, STORE_ID, KERNEL)
            master = custody.create("default", KERNEL.draw(16), 1)
            keys.release()
            opened = open_slot(arena, sealed, slot_key, STORE_ID)
    keyring = Keyring.open(
        arena,
        opened,
        store_id=STORE_ID,
        slots=[sealed],
        table_mac=mac,
        master_keys=[master],
        randomness=KERNEL,
    )
    public: dict[str, object] = {
        "salt": slot.parameters[-16:].hex(),
        "key_id": master.key_id.hex(),
        "master": master.wrapped.hex(),
    }
    return keyring, public


def use(arena: Arena, keyring: Keyring) -> list[str]:
    """Seal and open a secret many times; the wrapped data keys of the last rounds, the last one at hand."""
    wrapped: list[str] = []
    master = keyring.masters.named("default")
    with read_in(arena, 48) as secret:
        for version in range(1, ROUNDS + 1):
            need = master.need()
            if isinstance(need, ReserveWraps):
                master.granted(need)
            sealed = keyring.secrets.seal(master.permit(), "a/b", version, b"", secret.view)
            assert isinstance(sealed, SealedSecret)
            kept = OpenableSecret(bind(STORE_ID, "a/b"), version, sealed.wrapped_key, sealed.value)
            kept.seat = UNSEATED
            for _ in range(3):  # unwrapped, then at hand
                opened = keyring.secrets.open(kept)
                assert isinstance(opened, LockedBuffer)
                with opened:
                    assert opened.view == secret.view
            if version < ROUNDS:
                keyring.secrets.data_keys.forget(kept)
            wrapped.append(sealed.wrapped_key.hex())
    return wrapped[-3:]


def main() -> None:
    """Unlock, use, wait; lock, wait."""
    harden()
    arena = Arena.open(MemorySettings(backend="mlock" if sys.argv[1] == "mlock" else "memfd_secret"))
    keyring, public = unlock(arena)
    say({**public, "wrapped": use(arena, keyring)})
    wait()
    keyring.release()
    say({"used": arena.usage.used})
    wait()


main()
