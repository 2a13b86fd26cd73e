"""Moving and copying secrets: every version is bound to its path, so each is opened and sealed anew.

- The store's thread reads and writes within one transaction, and has each version sealed here, in the loop,
  where the keys are: one value at a time lies in locked memory, and a turn of the loop is for one version.
- Whoever locks meanwhile ends it, and nothing has changed; nobody else can interrupt it.
- Writers wait for it, in the store's queue. What they wrote before it began goes along, or it begins anew.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from keyholt_agent.keys.secrets import SealedSecret
from keyholt_agent.memory import LockedBuffer
from keyholt_agent.store import CopySecret, MasterRetiredError, MoveSecret, ReadNewest, Resealed
from keyholt_agent.vault.permits import SECRETS_MASTER
from keyholt_agent.vault.secret_cache import FetchableSecret
from keyholt_protocol.errors import ContentionError, IntegrityError, TooLargeError

if TYPE_CHECKING:
    from keyholt_agent.keys.master_key import WrapPermit
    from keyholt_agent.store import SecretVersion, Store
    from keyholt_agent.vault.permits import Permits
    from keyholt_agent.vault.vault import Vault

__all__ = ["Relocation"]

MOST_VERSIONS: Final = 16_384
"""Versions of a history that goes along: others wait for some seconds while so many are sealed anew."""

MAX_RETRIES: Final = 10
"""Times that others may write the secret first, or the master key be replaced; more is a defect."""


class Relocation:
    """Moves and copies the secrets of an unlocked vault."""

    def __init__(self, vault: Vault, store: Store, permits: Permits) -> None:
        self._vault: Final = vault
        self._store: Final = store
        self._permits: Final = permits

    async def move(self, path: str, to: str) -> int:
        """Give a secret another path; gives its latest version.

        Raises:
            NotFoundError: there never was one at ``path``.
            AlreadyExistsError: there is one at ``to``, and be it deleted.
            IntegrityError: a version of it was damaged.
            TooLargeError: too many versions, or they are too long together; says what to do.
            ResourceExhaustedError: there is no memory for a value.
        """
        return await self._relocate(MoveSecret, path, to)

    async def copy(self, path: str, to: str) -> int:
        """Give a secret a second path, with its own copy of all versions; otherwise as ``move``."""
        return await self._relocate(CopySecret, path, to)

    async def _relocate(self, command: type[MoveSecret | CopySecret], path: str, to: str) -> int:
        for _ in range(MAX_RETRIES):
            versions = (await self._store.ask(ReadNewest(path=path))).head.latest
            if versions > MOST_VERSIONS:
                raise TooLargeError(
                    f"{path!r} has {versions} versions; no history over {MOST_VERSIONS} can be moved or "
                    "copied: put the newest value at the other path",
                    details={"field": "path", "limit": MOST_VERSIONS},
                )
            try:
                async with self._permits.several(SECRETS_MASTER, versions) as permits:
                    sealing = partial(self._reseal, permits, path, to)
                    in_loop = partial(
                        trio.from_thread.run, sealing, trio_token=trio.lowlevel.current_trio_token()
                    )
                    return await self._store.ask(command(path=path, to=to, reseal=in_loop))
            except _MoreVersionsError:
                continue
            except MasterRetiredError:  # the store is ahead of the keyring, after a failure
                await self._permits.catch_up(SECRETS_MASTER)
        raise ContentionError(f"too many others write {path!r} just now; try again")

    async def _reseal(self, permits: list[WrapPermit], path: str, to: str, stored: SecretVersion) -> Resealed:
        """Open a version, and seal it for the other path, under a data key of its own."""
        if not permits:
            raise _MoreVersionsError
        keyring = self._vault.keyring
        try:
            opened = keyring.secrets.open(FetchableSecret(keyring, path, stored))
            value = opened if isinstance(opened, LockedBuffer) else await opened
        except IntegrityError:
            raise IntegrityError(
                f"version {stored.version} of {path!r} fails authentication, so nothing was changed: destroy "
                "that version first, or restore a backup"
            ) from None
        with value:
            sealing = keyring.secrets.seal(permits.pop(), to, stored.version, stored.metadata, value.view)
            sealed = sealing if isinstance(sealing, SealedSecret) else await sealing
        return Resealed(
            wrapped_key=sealed.wrapped_key,
            value=sealed.value,
            master_key_id=sealed.master_id,
            master_key_version=sealed.master_version,
        )


class _MoreVersionsError(ContentionError):
    """Somebody wrote the secret since its versions were counted."""
