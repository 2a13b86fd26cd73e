"""The keyslots of a store. Each change is one transaction of the whole table with its MAC.

- Who changes the table shows a passphrase that opens a keyslot which stays (or, to change a passphrase, the
  old one): being connected to an unlocked agent is not enough to keep access, or to take it away from its
  owner.
- The table is held against its MAC before a passphrase is tried on it: otherwise whoever can write the file
  could bring a keyslot of their own, and be given the root key for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from keyholt_agent.keys.keyslots import passphrase_slot
from keyholt_agent.store import ReadSlotTable, ReplaceSlotTable
from keyholt_agent.vault.passphrases import MAX_SLOTS
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
        *,
        now: WallClock,
        randomness: Randomness,
    ) -> None:
        self._vault: Final = vault
        self._store: Final = store
        self._passphrases: Final = passphrases
        self._now: Final = now
        self._randomness: Final = randomness

    async def list(self) -> list[Keyslot]:
        """The keyslots, in the order in which they are tried.

        Raises:
            IntegrityError: one was changed outside of the agent.
        """
        return [decode_slot(row) for row in (await self._store.ask(ReadSlotTable())).slots]

    async def add(
        self, principal: Principal, name: str, existing: memoryview, new: memoryview, *, replace: bool
    ) -> Keyslot:
        """Wrap the root key for one more passphrase, or for another one in the place of an old one.

        Args:
            existing: a passphrase that opens a keyslot; with ``replace``, the one of that name.
            new: the passphrase to add, of an allowed length (``two_passphrases``).
        """
        async with self._passphrases.turn(principal):
            table = await self._verified_table()
            candidates, others = _placed(table, name, replace=replace)
            await self._prove(principal, existing, table, candidates)
            parameters = await self._passphrases.calibrated()
            draft = passphrase_slot(name, self._now(), parameters, self._randomness)
            with await self._passphrases.derive(draft, new) as identity:
                slot = self._vault.keyring.complete_slot(draft, identity)
            row = slot_row(slot, self._vault.keyring.wrap_root(slot))
            await self._replace(table, (*others, row))
        return slot

    async def remove(self, principal: Principal, name: str, existing: memoryview) -> None:
        """Take a keyslot out of the table; its wrapped root key is overwritten.

        Args:
            existing: a passphrase that opens a keyslot that stays.
        """
        async with self._passphrases.turn(principal):
            table = await self._verified_table()
            find_slot(table, name)
            others = tuple(row for row in table.slots if row.name != name)
            if not others:
                raise ConflictError(
                    f"{name!r} is the last keyslot; without it nobody could ever unlock the store"
                )
            await self._prove(principal, existing, table, others)
            await self._replace(table, others)

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

    async def _replace(self, before: SlotTable, rows: Sequence[SlotRow]) -> None:
        mac = self._vault.keyring.table_mac(stored_slots(rows))
        await self._store.ask(ReplaceSlotTable(slots=tuple(rows), mac=mac, expected_mac=before.mac))


def _placed(table: SlotTable, name: str, *, replace: bool) -> tuple[Sequence[SlotRow], Sequence[SlotRow]]:
    """The keyslots of which one must open before ``name`` may be written, and those that stay beside it."""
    if replace:
        return (find_slot(table, name),), [row for row in table.slots if row.name != name]
    if any(row.name == name for row in table.slots):
        raise AlreadyExistsError(f"there is a keyslot {name!r} already; change it, or choose another name")
    if len(table.slots) >= MAX_SLOTS:
        raise TooLargeError(
            f"the store has {MAX_SLOTS} keyslots, the most there can be; remove one first",
            details={"field": "name", "limit": MAX_SLOTS},
        )
    return table.slots, table.slots
