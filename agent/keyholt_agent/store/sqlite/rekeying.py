"""Answers to commands that put other keys in the place of those in force: the root key, and data keys' wraps.

What each answers and refuses stands with its command.

- Every function runs inside the caller's transaction and checks before it writes: one that raises a
  ``KeyholtError`` has changed nothing.
- A wrapped data key is overwritten where it stands, by one of the same length (``schema`` says why).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyholt_agent.store.errors import MasterRetiredError, SlotTableMovedError
from keyholt_agent.store.rows import KeyState, WrappedKey
from keyholt_agent.store.sqlite import elements, keys, sql
from keyholt_protocol.errors import ConflictError, IntegrityError, NotFoundError

if TYPE_CHECKING:
    from keyholt_agent.store.key_commands import (
        CountRetiringKeys,
        ReadWrappedKeys,
        ReplaceRoot,
        RetireMasterVersion,
        RewrapKeys,
    )
    from keyholt_agent.store.sqlite.keys import MasterRow
    from keyholt_agent.store.sqlite.transaction import Transaction

__all__ = [
    "count_retiring_keys",
    "read_wrapped_keys",
    "replace_root",
    "retire_master_version",
    "rewrap_keys",
]


def replace_root(transaction: Transaction, asked: ReplaceRoot) -> None:
    """Write the store's own row, the keyslots and the master keys anew; the state counts them all as new."""
    store_id, created, mac = transaction.execute(sql.META_ROW).fetchone()
    masters = [keys.MasterRow(*row) for row in transaction.execute(sql.MASTER_ROWS)]
    if mac != asked.expected_mac or {(row.key_id, row.version) for row in masters} != set(asked.wrapped):
        raise SlotTableMovedError("the keyslots or the master keys were changed meanwhile: try again")
    transaction.execute(sql.REPLACE_MAC, {"expected_mac": mac, "mac": asked.mac})
    transaction.add(elements.store_meta(store_id, created, asked.mac))
    transaction.execute(sql.REMOVE_SLOTS)
    keys.insert_slots(transaction, asked.slots)
    succeeded = {row.key_id for row in asked.added}
    for row in masters:
        retires = row.key_id in succeeded and row.state != KeyState.DESTROYED
        _rewrite(
            transaction,
            row._replace(
                state=KeyState.DECRYPT_ONLY.value if row.state == KeyState.ACTIVE and retires else row.state,
                retiring=int(retires),
                wrapped=asked.wrapped[row.key_id, row.version],
            ),
        )
    for added in asked.added:
        keys.insert_master_key(transaction, added)


def read_wrapped_keys(transaction: Transaction, asked: ReadWrappedKeys) -> list[WrappedKey]:
    """Read a stretch of the index by master key."""
    master = _master(transaction, asked.key_id, asked.version)
    values = {"master": master.id, "after": asked.after, "limit": asked.most}
    return [
        WrappedKey(
            row=row,
            path=path.decode(errors="surrogateescape"),
            version=version,
            metadata=metadata,
            wrapped=wrapped,
        )
        for row, path, version, metadata, wrapped in transaction.execute(sql.WRAPPED, values)
    ]


def count_retiring_keys(transaction: Transaction, _: CountRetiringKeys) -> int:
    """Count entries of the index by master key."""
    (count,) = transaction.execute(sql.COUNT_RETIRING).fetchone()
    return int(count)


def rewrap_keys(transaction: Transaction, asked: RewrapKeys) -> int:
    """Replace each that is as it was read."""
    master = _master(transaction, asked.key_id, asked.version)
    if master.state != KeyState.ACTIVE:
        raise MasterRetiredError("the master key was replaced meanwhile; try again")
    count = 0
    for key, wrapped in asked.keys:
        version = transaction.execute(sql.VERSION_AT, {"row": key.row}).fetchone()
        if version is None or version[-1] != key.wrapped or len(wrapped) != len(key.wrapped):
            continue  # destroyed since, or damaged: then it stays as it is
        row, secret, number, created, _, destroyed, metadata, _ = version
        try:
            before = elements.version(version)
            after = elements.version((row, secret, number, created, master.id, destroyed, metadata, wrapped))
        except IntegrityError:
            continue  # damaged, as the next unlock will find
        values = {"row": key.row, "new_master": master.id, "new_wrapped": wrapped}
        transaction.execute(sql.REWRAP, values)
        transaction.remove(before)
        transaction.add(after)
        count += 1
    return count


def retire_master_version(transaction: Transaction, asked: RetireMasterVersion) -> None:
    """Overwrite the key, once nothing is wrapped by it."""
    row = _master(transaction, asked.key_id, asked.version)
    if transaction.execute(sql.WRAPPED, {"master": row.id, "after": 0, "limit": 1}).fetchone():
        raise ConflictError(f"version {row.version} of master key {row.name!r} still wraps data keys")
    after = row._replace(state=KeyState.DESTROYED.value, retiring=0, wrapped=bytes(len(row.wrapped)))
    transaction.remove(row.element)
    _rewrite(transaction, after)


def _rewrite(transaction: Transaction, row: MasterRow) -> None:
    values = {
        "row": row.id,
        "new_state": row.state,
        "new_retiring": row.retiring,
        "new_wrapped": row.wrapped,
    }
    transaction.execute(sql.REWRITE_MASTER, values)
    transaction.add(row.element)


def _master(transaction: Transaction, key_id: bytes, version: int) -> MasterRow:
    row = keys.maybe_master_row(transaction, key_id, version)
    if row is None:
        raise NotFoundError(f"there is no version {version} of master key {key_id.hex()}")
    return row
