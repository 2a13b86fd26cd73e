"""Secrets: reading and writing them with the keys of the vault.

- A cached record is opened at once: it is decrypted into locked memory and nothing waits.
- A write is sealed for the version that it will have. The store takes it only if that is still the next one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from keyholt_agent.keys.envelope import bind
from keyholt_agent.keys.secrets import OpenableSecret, SealedSecret
from keyholt_agent.memory import LockedBuffer
from keyholt_agent.store import NewVersion, PutSecret
from keyholt_agent.vault.permits import SECRETS_MASTER
from keyholt_protocol.errors import IntegrityError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from keyholt_agent.store import SecretVersion, Store
    from keyholt_agent.vault.metadata import Metadata
    from keyholt_agent.vault.permits import Permits
    from keyholt_agent.vault.vault import Vault

__all__ = ["Secrets"]


class Secrets:
    """Reads and writes the secrets of an unlocked vault."""

    def __init__(self, vault: Vault, store: Store, permits: Permits) -> None:
        self._vault: Final = vault
        self._store: Final = store
        self._permits: Final = permits

    def open(self, path: str, record: SecretVersion) -> LockedBuffer | Awaitable[LockedBuffer]:
        """The value of a version, the caller's to release; what is stored beside it is authentic then.

        Raises:
            NotFoundError: the version was destroyed.
            IntegrityError: what is stored is not what was sealed there.
        """
        if record.wrapped_key is None or record.value is None:
            raise NotFoundError(f"version {record.version} of {path!r} was destroyed; its value is gone")
        keyring = self._vault.keyring
        try:
            context = bind(keyring.store_id, path, record.metadata)
            secret = OpenableSecret(context, record.version, record.wrapped_key, record.value)
            opened = keyring.secrets.open(secret)
        except IntegrityError:
            raise _damaged(path, record.version) from None
        return opened if isinstance(opened, LockedBuffer) else _opened_later(opened, path, record.version)

    async def write(
        self, path: str, version: int, metadata: Metadata, value: memoryview, *, deleted: bool | None
    ) -> None:
        """Seal and commit a version, if it is the next one.

        Args:
            deleted: whether the path, if there is such a one, has to be deleted before; None for either.

        Raises:
            HeadMovedError: it is not the next one, or not ``deleted``; ``head`` says where the path stands.
        """
        encoded = metadata.encode()
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
        await self._store.ask(PutSecret(path=path, new=new, deleted=deleted))


async def _opened_later(opening: Awaitable[LockedBuffer], path: str, version: int) -> LockedBuffer:
    try:
        return await opening
    except IntegrityError:
        raise _damaged(path, version) from None


def _damaged(path: str, version: int) -> IntegrityError:
    return IntegrityError(
        f"version {version} of {path!r} fails authentication: what is stored was damaged "
        "or replaced; restore a backup"
    )
