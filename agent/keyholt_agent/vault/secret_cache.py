"""The latest versions of the secrets that were used last, taken apart for opening, bounded in bytes.

- Only what is sealed: no plaintext and no key is ever in it. The data keys of what is here lie in locked
  memory (``keys/data_keys.py``), and leave it with their entry here.
- Only the latest version of a live, undestroyed secret: absence means "ask the store", never "not found".
- Used by the trio thread alone, and changed only by what the store delivers, in the store's order, so that an
  older read never covers a newer write.
- The bound counts what Python really spends on an entry, not its own bytes alone.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from keyholt_agent.keys.data_keys import NOT_KEPT, UNSEATED
from keyholt_agent.keys.envelope import bind
from keyholt_agent.keys.secrets import OpenableSecret
from keyholt_agent.vault.metadata import fetch_result, forget_metadata
from keyholt_protocol.errors import IntegrityError, NotFoundError

if TYPE_CHECKING:
    from keyholt_agent.keys.keyring import Keyring
    from keyholt_agent.store import SecretVersion
    from keyholt_protocol.usual import PackedResult

__all__ = ["FetchableSecret", "SecretCache"]

ENTRY_OVERHEAD: Final = 500
"""Bytes of an entry beside the contents of its strings: its object with the collector's header, the heads of
its path and of five byte strings, the ordered dictionary's node and tables, its data key and its seat, and
rounding. Measured: an entry of 64 bytes, counted as 848, adds 800 to the resident set where others were
written in the same second, and so share what is told of them, and 885 where none was."""

LARGEST_SHARE: Final = 8
"""A version over 1/8 of the bound is not kept: one big file must not push out everything else."""


class FetchableSecret(OpenableSecret):
    """One version of a secret, with all that its fetches need.

    Args:
        keyring: of the store that it is in.
        path: where it is.
        row: what the store has of it.

    Attributes:
        metadata: what is stored beside the value; None once it is described.
        result: what a fetch says beside the value, packed. There is none before ``describe``: until the value
            has opened, nothing that is stored beside it is authentic.
        expires: likewise.

    Raises:
        NotFoundError: the version was destroyed.
        IntegrityError: the row is not one of that version.
    """

    __slots__ = ("expires", "metadata", "result")

    result: PackedResult
    expires: int | None

    def __init__(self, keyring: Keyring, path: str, row: SecretVersion) -> None:
        if row.wrapped_key is None or row.value is None:
            raise NotFoundError(f"version {row.version} of {path!r} was destroyed; its value is gone")
        context = bind(keyring.store_id, path, row.metadata)
        super().__init__(context, row.version, row.wrapped_key, row.value)
        self.metadata: bytes | None = row.metadata

    @property
    def cost(self) -> int:
        """Bytes that it takes in memory with its path, described or not."""
        # The path and the metadata are bound in ``associated``, and lie beside it once more.
        return ENTRY_OVERHEAD + 2 * len(self.associated) + len(self.sealed) + len(self.wrapped_key)

    def describe(self) -> None:
        """Read what is stored beside the value; to be called once that has opened.

        Raises:
            IntegrityError: it is no metadata.
        """
        if self.metadata is not None:
            self.result, self.expires = fetch_result(self.version, self.metadata)
            self.metadata = None


class SecretCache:
    """Secrets by path, the least recently used of which goes first.

    Attributes:
        limit: the bound in bytes.
        size: bytes in use.
        epoch: raised by ``drop``; an effect asked for in an earlier epoch may only evict.
    """

    def __init__(self, limit: int) -> None:
        self.limit: Final = limit
        self.size = 0
        self.epoch = 0
        self._keyring: Keyring | None = None
        self._secrets: OrderedDict[str, FetchableSecret] = OrderedDict()

    def __len__(self) -> int:
        return len(self._secrets)

    def serve(self, keyring: Keyring | None) -> None:
        """Take in what these keys open from now on; None for nothing. Forgets everything."""
        self.drop()
        self._keyring = keyring

    def get(self, path: str, version: int | None) -> FetchableSecret | None:
        """The latest version, if it is here and is the one asked for (None: whichever is the latest)."""
        secret = self._secrets.get(path)
        if secret is None or (version is not None and secret.version != version):
            return None
        self._secrets.move_to_end(path)
        return secret

    def keep(self, path: str, row: SecretVersion) -> None:
        """Take in what the store has as the latest version of ``path``, in the place of any other."""
        self.evict(path)
        if self._keyring is None:
            return
        try:
            secret = FetchableSecret(self._keyring, path, row)
        except (IntegrityError, NotFoundError):
            return  # whoever asks for it reads it from the store, and is told
        if secret.cost > self.limit // LARGEST_SHARE:
            return
        secret.seat = UNSEATED
        self._secrets[path] = secret
        self.size += secret.cost
        while self.size > self.limit:
            self._leave(self._secrets.popitem(last=False)[1])

    def evict(self, path: str) -> None:
        """Forget ``path``, if it is here."""
        secret = self._secrets.pop(path, None)
        if secret is not None:
            self._leave(secret)

    def drop(self) -> None:
        """Forget everything, and keep nothing that was asked for before now."""
        if self._keyring is not None:
            self._keyring.secrets.data_keys.forget_all()
        for secret in self._secrets.values():
            secret.seat = NOT_KEPT  # whoever is still opening it, with a token, comes too late
        self._secrets.clear()
        self.size = 0
        self.epoch += 1
        forget_metadata()

    def _leave(self, secret: FetchableSecret) -> None:
        self.size -= secret.cost
        if self._keyring is not None:
            self._keyring.secrets.data_keys.forget(secret)
