"""Between what the keys seal and what the store keeps: the one place where either is made from the other.

``keys`` knows no store and ``store`` no key, so each has its own records.
"""

from __future__ import annotations

from collections.abc import Iterable

from keyholt_agent.keys.custody import SealedMasterKey
from keyholt_agent.keys.keyring import NewStore
from keyholt_agent.keys.keyslots import Keyslot, StoredKeyslot
from keyholt_agent.store import MasterKeyRow, SlotRow, StoreSeed
from keyholt_protocol.errors import IntegrityError

__all__ = ["decode_slot", "master_key_row", "slot_row", "store_seed", "stored_slots"]


def master_key_row(master: SealedMasterKey, created: int) -> MasterKeyRow:
    """A new version of a master key as the store keeps it; ``created`` in seconds since 1970."""
    return MasterKeyRow(
        key_id=master.key_id,
        name=master.name,
        version=master.version,
        state=master.state,
        custody=master.custody,
        wrapped=master.wrapped,
        wraps_reserved=master.wraps_reserved,
        created=created,
    )


def slot_row(slot: Keyslot, stored: StoredKeyslot) -> SlotRow:
    """A new keyslot as the store keeps it."""
    return SlotRow(
        name=slot.name,
        kind=slot.kind.name.lower(),
        header=stored.header,
        wrapped_root=stored.wrapped_root,
        created=slot.created,
    )


def store_seed(new: NewStore) -> StoreSeed:
    """A new store as it is first written."""
    created = new.slot.created
    return StoreSeed(
        store_id=new.store_id,
        created=created,
        slots=(slot_row(new.slot, new.stored_slot),),
        slot_table_mac=new.table_mac,
        master_key=master_key_row(new.master, created),
    )


def decode_slot(row: SlotRow) -> Keyslot:
    """The header of a stored keyslot, which the table's MAC covers.

    Raises:
        IntegrityError: it is damaged, or the row beside it, which no MAC covers, says otherwise: whoever can
            write the file could have one keyslot removed in the place of another.
    """
    slot = Keyslot.decode(row.header)
    if (row.name, row.kind, row.created) != (slot.name, slot.kind.name.lower(), slot.created):
        raise IntegrityError(
            f"the row of keyslot {slot.name!r} was changed outside of the agent; restore a backup"
        )
    return slot


def stored_slots(rows: Iterable[SlotRow]) -> list[StoredKeyslot]:
    """Stored keyslots as the keyring takes them."""
    return [StoredKeyslot(header=row.header, wrapped_root=row.wrapped_root) for row in rows]
