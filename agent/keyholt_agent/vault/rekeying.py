"""A new root key in the place of the present one: what makes older copies of the store open nothing new.

Three steps (docs/adr/0026), of which only the second writes:

1. The new keys of the sealed state add up all rows, while the store serves on.
2. One transaction: keyslots that hold the new root key, master keys that it wraps, a new version of each, the
   state sealed anew.
3. Below the older versions of master keys the data keys are rewrapped, in the background (``rewrapping``).

Whoever locks before the transaction ends it all, and nothing has changed. Where it cannot be known whether
the transaction was committed, the vault is locked: an unlock reads which root key it is.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from keyholt_agent.store import Cover, ErasureOwedError, ReadMasterKeys, ReadSlotTable, ReplaceRoot
from keyholt_agent.vault.state import LockReason
from keyholt_agent.vault.stored_keys import master_key_row, slot_row
from keyholt_protocol.errors import KeyholtError, LockedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keyholt_agent.clocks import WallClock
    from keyholt_agent.keys.keyring import Keyring
    from keyholt_agent.keys.keyslots import Keyslot
    from keyholt_agent.keys.root import RootKeys
    from keyholt_agent.store import SlotTable, Store
    from keyholt_agent.vault.permits import Permits
    from keyholt_agent.vault.rewrapping import Rewrapping
    from keyholt_agent.vault.vault import Vault

__all__ = ["Rekeying"]

ROWS_AT_ONCE: Final = 2048
"""Rows that are added up in one go: about 10 ms, for which writers wait."""

_log: Final = logging.getLogger("keyholt.rekey")


class Rekeying:
    """Replaces the root key of a vault.

    Args:
        now: the time that versions of master keys are made at.
    """

    def __init__(
        self, vault: Vault, store: Store, permits: Permits, rewrapping: Rewrapping, *, now: WallClock
    ) -> None:
        self._vault: Final = vault
        self._store: Final = store
        self._permits: Final = permits
        self._rewrapping: Final = rewrapping
        self._now: Final = now

    async def replace_root(self, table: SlotTable, slots: Sequence[Keyslot]) -> int:
        """Make a new root key for these keyslots, and no others; gives its version.

        Args:
            table: the present keyslots, verified; nobody changes them meanwhile.
            slots: those that stay, and new ones.

        Raises:
            LockedError: the agent was locked before it was done; nothing has changed.
            ErasureOwedError: it is done, but for the old keys' erasure from the log.
            StoreUnavailableError: the store failed; the agent is locked if it may be done.
        """
        keyring = self._vault.keyring
        root = keyring.next_root()
        version = root.secret.version
        try:
            while await self._store.ask(Cover(keeper=root.state, most=ROWS_AT_ONCE)) is not None:
                self._require(keyring)
            # From here on nobody interrupts it, nor changes a master key beside it.
            async with self._permits.exclusive():
                owed = await self._commit(keyring, root, table, slots)
        except BaseException:
            root.release()
            raise
        self._rewrapping.begin()
        if owed is not None:
            raise owed
        return version

    async def _commit(
        self, keyring: Keyring, root: RootKeys, table: SlotTable, slots: Sequence[Keyslot]
    ) -> ErasureOwedError | None:
        """Commit the new root key, and have the keyring work with it; gives what was not erased."""
        masters = await self._store.ask(ReadMasterKeys())
        self._require(keyring)
        new = keyring.wrapped_by(root, slots, masters)
        rows = zip(slots, new.slots, strict=True)
        replacing = ReplaceRoot(
            keeper=root.state,
            slots=tuple(slot_row(slot, stored) for slot, stored in rows),
            mac=new.table_mac,
            expected_mac=table.mac,
            wrapped=new.wrapped,
            added=tuple(master_key_row(master, self._now()) for master in new.added),
        )
        owed: ErasureOwedError | None = None
        try:
            await self._store.ask(replacing)
        except ErasureOwedError as error:
            owed = error
        except BaseException:
            if not await self._unchanged(table):
                self._vault.lock(LockReason.STORE_FAILURE)
            raise
        if self._vault.holds(keyring):
            keyring.change_root(root, new)
        else:  # locked since: whoever unlocks has the new one
            root.release()
        _log.info("version %d of the root key is in force", root.secret.version)
        return owed

    async def _unchanged(self, table: SlotTable) -> bool:
        """Whether the store is known to hold the root key that it held."""
        try:
            return (await self._store.ask(ReadSlotTable())).mac == table.mac
        except KeyholtError:
            return False

    def _require(self, keyring: Keyring) -> None:
        """Refuse to go on with keys that are not the vault's any more."""
        if not self._vault.holds(keyring):
            raise LockedError
