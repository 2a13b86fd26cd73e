"""Secrets: reading and writing them with the keys of the vault.

- What is cached is opened at once: it is decrypted into locked memory and nothing waits.
- A write is sealed for the version that it will have. The store takes it only if that is still the next one.
- Who was too late with a write stands in line for its path (``alone``), and so does who comes then: of many
  that seal at once for the next version, all but one come too late and have to seal anew.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

import trio

from keyholt_agent.keys.envelope import metadata_of
from keyholt_agent.keys.secrets import SealedSecret
from keyholt_agent.memory import LockedBuffer
from keyholt_agent.store import MasterRetiredError, NewVersion, PutSecret, ReadNewest
from keyholt_agent.vault.metadata import Metadata
from keyholt_agent.vault.permits import SECRETS_MASTER
from keyholt_agent.vault.secret_cache import FetchableSecret
from keyholt_protocol.errors import IntegrityError, LockedError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable

    from keyholt_agent.store import Newest, Store
    from keyholt_agent.vault.permits import Permits
    from keyholt_agent.vault.secret_cache import SecretCache
    from keyholt_agent.vault.vault import Vault

__all__ = ["NOTHING", "Base", "Secrets"]


class Base(NamedTuple):
    """What a write builds on.

    Attributes:
        version: the newest; 0 where there is none.
        deleted: whether the path is.
        kept: what the next version has beside its value as far as nobody says otherwise; authentic.
    """

    version: int
    deleted: bool
    kept: Metadata


NOTHING: Final = Base(0, deleted=False, kept=Metadata(created=0))
"""No version at all, and nothing to keep."""


class Secrets:
    """Reads and writes the secrets of an unlocked vault."""

    def __init__(self, vault: Vault, store: Store, cache: SecretCache, permits: Permits) -> None:
        self._vault: Final = vault
        self._store: Final = store
        self._cache: Final = cache
        self._permits: Final = permits
        self._lines: Final[dict[str, trio.Lock]] = {}  # of paths that are being written

    def cached(self, path: str, version: int | None) -> FetchableSecret | None:
        """The latest version, if it is cached and is the one asked for; None says nothing: then ``read``."""
        return self._cache.get(path, version)

    async def read(self, path: str, version: int | None) -> FetchableSecret:
        """One version of a live secret, None for the latest, which is then cached.

        Raises:
            NotFoundError: never written, deleted, destroyed, or no such version; the message says which.
            IntegrityError: what is stored is not what was sealed there.
        """
        row = await self._store.read_secret(path, version)
        cached = self._cache.get(path, row.version)
        if cached is not None:
            return cached
        try:
            return FetchableSecret(self._vault.keyring, path, row)
        except IntegrityError:
            raise _damaged(path, row.version) from None

    def open(self, path: str, secret: FetchableSecret) -> LockedBuffer | Awaitable[LockedBuffer]:
        """The value of a secret, the caller's to release; what is told beside it is authentic and there then.

        Raises:
            IntegrityError: what is stored is not what was sealed there.
        """
        try:
            opened = self._vault.keyring.secrets.open(secret)
        except IntegrityError:
            raise _damaged(path, secret.version) from None
        if not isinstance(opened, LockedBuffer):
            return self._open_later(path, secret, opened)
        return opened if secret.metadata is None else _describe(secret, opened)

    async def _open_later(
        self, path: str, secret: FetchableSecret, opening: Awaitable[LockedBuffer]
    ) -> LockedBuffer:
        locks = self._vault.locks
        try:
            opened = await opening
        except IntegrityError:
            raise _damaged(path, secret.version) from None
        if self._vault.locks != locks:  # whoever locks means what is being opened, too
            opened.release()
            raise LockedError
        return _describe(secret, opened)

    def contended(self, path: str) -> bool:
        """Whether writers of a path stand in line."""
        return path in self._lines

    @asynccontextmanager
    async def alone(self, path: str) -> AsyncGenerator[bool, None]:
        """Held by one writer of a path, who was there first; gives whether that was waited for.

        Others are only ever too late for a version.
        """
        line = self._lines.get(path)
        if line is None:
            line = self._lines[path] = trio.Lock()
        try:
            if waited := line.locked():
                await line.acquire()
            else:
                line.acquire_nowait()
            try:
                yield waited
            finally:
                line.release()
        finally:
            if not line.locked():  # whoever waits has it by now
                self._lines.pop(path, None)

    async def base_in_store(self, path: str, newest: Newest, *, keeps: bool) -> Base:
        """What a write builds on, by what the store says of the path.

        Args:
            keeps: whether anything is to be kept; what is not needed is not read.

        Raises:
            IntegrityError: what is stored is not what was sealed there.
        """
        head, kept = newest.head, NOTHING.kept
        # A deleted secret is written anew. A version that was destroyed has no key any more that says
        # whether what is stored beside it is authentic.
        if (
            keeps
            and head.deleted_at is None
            and newest.metadata is not None
            and newest.wrapped_key is not None
        ):
            kept = await self._kept(path, head.latest, newest.metadata, newest.wrapped_key)
        return Base(head.latest, head.deleted_at is not None, kept)

    async def base_in_cache(self, path: str, secret: FetchableSecret, *, keeps: bool) -> Base:
        """What a write builds on, by a cached secret; as ``base_in_store``."""
        kept = NOTHING.kept
        if keeps:
            metadata = metadata_of(secret.context)
            if secret.metadata is None:  # it has opened before, so this is authentic
                kept = Metadata.decode(metadata)
            else:
                kept = await self._kept(path, secret.version, metadata, secret.wrapped_key)
        return Base(secret.version, deleted=False, kept=kept)

    async def newest(self, path: str) -> Newest:
        """Where a path stands in the store."""
        return await self._store.ask(ReadNewest(path=path))

    async def write(self, path: str, base: Base, metadata: Metadata, value: memoryview) -> None:
        """Seal and commit the version after ``base``, if that is what the path stands at.

        Raises:
            HeadMovedError: it is not; ``newest`` says where the path stands.
        """
        encoded, version = metadata.encode(), base.version + 1
        deleted = base.deleted if base.version else None
        while True:
            permit = await self._permits.permit(SECRETS_MASTER)
            sealing = self._vault.keyring.secrets.seal(permit, path, version, encoded, value)
            sealed = sealing if isinstance(sealing, SealedSecret) else await sealing
            new = NewVersion(
                version=version,
                created=metadata.created,
                metadata=encoded,
                wrapped_key=sealed.wrapped_key,
                value=sealed.value,
                master_key_id=sealed.master_id,
                master_key_version=sealed.master_version,
            )
            try:
                await self._store.ask(PutSecret(path=path, new=new, deleted=deleted))
            except MasterRetiredError:
                # It was wrapped with a version that is not to wrap any more by the time it is written.
                await self._permits.catch_up(SECRETS_MASTER)
            else:
                return

    async def _kept(self, path: str, version: int, metadata: bytes, wrapped: bytes) -> Metadata:
        """What is stored beside a version; a forged one would become authentic with the next version."""
        try:
            await self._vault.keyring.secrets.authenticate(path, version, metadata, wrapped)
            return Metadata.decode(metadata)
        except IntegrityError:
            raise IntegrityError(
                f"the labels and the expiry of version {version} of {path!r} fail authentication, so they "
                "cannot be kept: restore a backup, or say both to write all the same"
            ) from None


def _describe(secret: FetchableSecret, opened: LockedBuffer) -> LockedBuffer:
    """Read what is stored beside a value, which is authentic now that the value has opened with it."""
    try:
        secret.describe()
    except BaseException:
        opened.release()
        raise
    return opened


def _damaged(path: str, version: int) -> IntegrityError:
    return IntegrityError(
        f"version {version} of {path!r} fails authentication: what is stored was damaged "
        "or replaced; restore a backup"
    )
