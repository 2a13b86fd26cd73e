"""The latest versions of secrets that were used last, as ciphertext, bounded in bytes.

- Only sealed records: no plaintext and no key is ever in it.
- Only the latest version of a live, undestroyed secret: absence means "ask the store", never "not found".
- Used by the trio thread alone, and changed only by deliveries from the store's thread, in their order,
  so that an older read never covers a newer write.
- The bound counts what Python really spends on an entry, not the record's own bytes alone.
"""

from __future__ import annotations

from collections import OrderedDict
from sys import getsizeof
from typing import Final

from keyholt_agent.store.records import SecretVersion

__all__ = ["SecretCache"]

ENTRY_OVERHEAD: Final = 192
"""Bytes of an entry beside its path and byte strings: the record object with the collector's header (64),
the ordered dictionary's node and tables, and rounding. Measured: an entry of 622 bytes so counted adds 575
to 620 bytes to the resident set, whatever the number of entries."""

LARGEST_SHARE: Final = 8
"""A record over 1/8 of the bound is not kept: one big file must not push out everything else."""


class SecretCache:
    """Least recently used records, by path.

    Attributes:
        limit: the bound in bytes.
        size: bytes in use.
        epoch: raised by ``drop``; an effect asked for in an earlier epoch may only evict.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self.epoch = 0
        self._records: OrderedDict[str, SecretVersion] = OrderedDict()

    def __len__(self) -> int:
        return len(self._records)

    def get(self, path: str, version: int | None) -> SecretVersion | None:
        """The latest version, if it is here and is the one asked for (None: whichever is the latest)."""
        record = self._records.get(path)
        if record is None or (version is not None and record.version != version):
            return None
        self._records.move_to_end(path)
        return record

    def keep(self, path: str, record: SecretVersion) -> None:
        """Take ``record`` in as the latest version of ``path``, in the place of any other."""
        self.evict(path)
        cost = _cost(path, record)
        if cost > self.limit // LARGEST_SHARE:
            return
        self._records[path] = record
        self.size += cost
        while self.size > self.limit:
            self.size -= _cost(*self._records.popitem(last=False))

    def evict(self, path: str) -> None:
        """Forget ``path``, if it is here."""
        record = self._records.pop(path, None)
        if record is not None:
            self.size -= _cost(path, record)

    def drop(self) -> None:
        """Forget everything, and keep nothing that was asked for before now."""
        self._records.clear()
        self.size = 0
        self.epoch += 1


def _cost(path: str, record: SecretVersion) -> int:
    wrapped_key = 0 if record.wrapped_key is None else getsizeof(record.wrapped_key)
    value = 0 if record.value is None else getsizeof(record.value)
    return ENTRY_OVERHEAD + getsizeof(path) + getsizeof(record.metadata) + wrapped_key + value
