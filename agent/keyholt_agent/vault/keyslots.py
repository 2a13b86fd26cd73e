"""The keyslots of a store. Each change is one transaction of the table with its MAC.

- Who changes the table shows a passphrase that opens a keyslot which stays (or, to change a passphrase, the
  old one): being connected to an unlocked agent is not enough to keep access, or to take it away from its
  owner.
- The table is held against its MAC before a passphrase is tried on it: otherwise whoever can write the file
  could bring a keyslot of their own, and be given the root key for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from keyholt_agent.keys.keyslots import passphrase_slot
from keyholt_agent.store import AddKeyslot, ReadSlotTable
from keyholt_agent.vault.passphrases import MAX_SLOTS, check_room_for
from keyholt_agent.vault.stored_keys import decode_slot, slot_row, stored_slots
from keyholt_protocol.errors import (
    AlreadyExistsError,
    ConflictError,
    NotFoundError,
    TooLargeError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keyholt_agent.clocks import WallClock
    from keyholt_agent.keys.keyslots import Keyslot
    from keyholt_agent.keys.randomness import Randomness
    from keyholt_agent.principal import Principal
    from keyholt_agent.store import SlotRow, SlotTable, Store
    from keyholt_agent.vault.passphrases import Passphrases
    from keyholt_agent.vault.rekeying import Rekeying
    from keyholt_agent.vault.vault import Vault

__all__ = ["Keyslots", "find_slot"]


def find_slot(table: SlotTable, name: str) -> SlotRow:
    """The keyslot of that name.

    Raises:
        NotFoundError: there is none.
    """
    for row in table.slots:
        if row.name == name:
            return row
    raise NotFoundError(f"there is no keyslot {name!r}; `keyholt slot list` shows them")


class Keyslots:
    """Lists and changes the keyslots of a store.

    Args:
        now: the time that a keyslot is made at.
    """

    def __init__(
        self,
        vault: Vault,
        store: Store,
        passphrases: Passphrases,
        rekeying: Rekeying,
        *,
        now: WallClock,
        randomness: Randomness,
    ) -> None:
        self._vault: Final = vault
        self._store: Final = store
        self._passphrases: Final = passphrases
        self._rekeying: Final = rekeying
        self._now: Final = now
        self._randomness: Final = randomness

    async def list(self) -> list[Keyslot]:
        """The keyslots, in the order in which they are tried.

        Raises:
            IntegrityError: one was changed outside of the agent.
        """
        return [decode_slot(row) for row in (await self._store.ask(ReadSlotTable())).slots]

    async def add(self, principal: Principal, name: str, existing: memoryview, new: memoryview) -> Keyslot:
        """Wrap the root key to one more keyslot, for a passphrase.

        Args:
            existing: a passphrase that opens a keyslot.
            new: the passphrase to add, of an allowed length (``two_passphrases``).
        """
        async with self._passphrases.turn(principal):
            table = await self._verified_table()
            _check_room(table, name)
            await self._prove(principal, existing, table, table.slots)
            keyring, slot = self._vault.keyring, await self._new_slot(name, new, table.slots)
            row = slot_row(slot, keyring.wrap_root(slot))
            mac = keyring.table_mac(stored_slots((*table.slots, row)))
            await self._store.ask(AddKeyslot(slot=row, mac=mac, expected_mac=table.mac))
        return slot

    async def change(self, principal: Principal, name: str, existing: memoryview, new: memoryview) -> Keyslot:
        """Put another passphrase in the place of a keyslot's, and a new root key in the place of the old one.

        Args:
            existing: the passphrase that opens the keyslot.
            new: the passphrase that is to, of an allowed length (``two_passphrases``).
        """
        async with self._passphrases.turn(principal):
            table = await self._verified_table()
            await self._prove(principal, existing, table, (find_slot(table, name),))
            slot = await self._new_slot(name, new, [row for row in table.slots if row.name != name])
            await self._rekeying.replace_root(table, (*_others(table, name), slot))
        return slot

    async def remove(self, principal: Principal, name: str, existing: memoryview) -> None:
        """Take a keyslot out of the table, and put a new root key in the place of the one that it had.

        Args:
            existing: a passphrase that opens a keyslot that stays.
        """
        async with self._passphrases.turn(principal):
            table = await self._verified_table()
            find_slot(table, name)
            others = _others(table, name)
            if not others:
                raise ConflictError(
                    f"{name!r} is the last keyslot; without it nobody could ever unlock the store"
                )
            rows = [row for row in table.slots if row.name != name]
            await self._prove(principal, existing, table, rows)
            await self._rekeying.replace_root(table, others)

    async def rekey(self, principal: Principal) -> int:
        """Put a new root key in the place of the present one, for all keyslots; gives its version.

        It takes no passphrase: nobody comes by anything with it.
        """
        async with self._passphrases.turn(principal):
            table = await self._verified_table()
            return await self._rekeying.replace_root(table, [decode_slot(row) for row in table.slots])

    async def _new_slot(self, name: str, passphrase: memoryview, others: Sequence[SlotRow]) -> Keyslot:
        """A keyslot that there is room for beside others."""
        parameters = await self._passphrases.calibrated()
        check_room_for(parameters, others)
        draft = passphrase_slot(name, self._now(), parameters, self._randomness)
        with await self._passphrases.derive(draft, passphrase) as identity:
            return self._vault.keyring.complete_slot(draft, identity)

    async def _verified_table(self) -> SlotTable:
        table = await self._store.ask(ReadSlotTable())
        self._vault.keyring.verify_table(stored_slots(table.slots), table.mac)
        for row in table.slots:
            decode_slot(row)
        return table

    async def _prove(
        self,
        principal: Principal,
        passphrase: memoryview,
        table: SlotTable,
        candidates: Sequence[SlotRow],
    ) -> None:
        _, root = await self._passphrases.open_keyslot(principal, passphrase, table, candidates)
        root.release()  # that it opened is what counts; the keyring holds the same one


def _others(table: SlotTable, name: str) -> list[Keyslot]:
    """The keyslots that stay beside one of that name."""
    return [decode_slot(row) for row in table.slots if row.name != name]


def _check_room(table: SlotTable, name: str) -> None:
    """Refuse a name that is taken, or one keyslot too many."""
    if any(row.name == name for row in table.slots):
        raise AlreadyExistsError(f"there is a keyslot {name!r} already; change it, or choose another name")
    if len(table.slots) >= MAX_SLOTS:
        raise TooLargeError(
            f"the store has {MAX_SLOTS} keyslots, the most there can be; remove one first",
            details={"field": "name", "limit": MAX_SLOTS},
        )
