"""The latest versions of secrets that were used last, as ciphertext, bounded in bytes.

- Only what is sealed: no plaintext and no key is ever in it.
- Only the latest version of a live, undestroyed secret: absence means "ask the store", never "not found".
- Used by the trio thread alone, and changed only by deliveries from the store's thread, in their order,
  so that an older read never covers a newer write.
- The bound counts what Python really spends on an entry, not its own bytes alone.
"""

from __future__ import annotations

from collections import OrderedDict
from sys import getsizeof
from typing import Final

from keyholt_agent.store.commands import AnyCommand, Effect, SecretCommand
from keyholt_agent.store.rows import SecretVersion

__all__ = ["SecretCache", "settle"]

ENTRY_OVERHEAD: Final = 192
"""Bytes of an entry beside its path and byte strings: the row's object with the collector's header (64),
the ordered dictionary's node and tables, and rounding. Measured: an entry of 622 bytes so counted adds 575
to 620 bytes to the resident set, whatever the number of entries."""

LARGEST_SHARE: Final = 8
"""A version over 1/8 of the bound is not kept: one big file must not push out everything else."""


class SecretCache:
    """Versions by path, the least recently used of which goes first.

    Attributes:
        limit: the bound in bytes.
        size: bytes in use.
        epoch: raised by ``drop``; an effect asked for in an earlier epoch may only evict.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self.epoch = 0
        self._versions: OrderedDict[str, SecretVersion] = OrderedDict()

    def __len__(self) -> int:
        return len(self._versions)

    def get(self, path: str, version: int | None) -> SecretVersion | None:
        """The latest version, if it is here and is the one asked for (None: whichever is the latest)."""
        row = self._versions.get(path)
        if row is None or (version is not None and row.version != version):
            return None
        self._versions.move_to_end(path)
        return row

    def keep(self, path: str, row: SecretVersion) -> None:
        """Take ``row`` in as the latest version of ``path``, in the place of any other."""
        self.evict(path)
        cost = _cost(path, row)
        if cost > self.limit // LARGEST_SHARE:
            return
        self._versions[path] = row
        self.size += cost
        while self.size > self.limit:
            self.size -= _cost(*self._versions.popitem(last=False))

    def evict(self, path: str) -> None:
        """Forget ``path``, if it is here."""
        row = self._versions.pop(path, None)
        if row is not None:
            self.size -= _cost(path, row)

    def drop(self) -> None:
        """Forget everything, and keep nothing that was asked for before now."""
        self._versions.clear()
        self.size = 0
        self.epoch += 1


def settle(cache: SecretCache, command: AnyCommand, answer: object, *, recent: bool) -> None:
    """Bring the cache up to date with a command that succeeded.

    Args:
        recent: False when the cache was dropped after the command was asked for: it may then only evict.
    """
    if not isinstance(command, SecretCommand) or command.effect is Effect.NONE:
        return
    if (
        recent
        and command.effect is Effect.KEEP
        and isinstance(answer, SecretVersion)
        and not answer.destroyed
    ):
        cache.keep(command.path, answer)
    else:
        cache.evict(command.path)


def _cost(path: str, row: SecretVersion) -> int:
    wrapped_key = 0 if row.wrapped_key is None else getsizeof(row.wrapped_key)
    value = 0 if row.value is None else getsizeof(row.value)
    return ENTRY_OVERHEAD + getsizeof(path) + getsizeof(row.metadata) + wrapped_key + value
