"""Permits to wrap: a wrap of a master key's active version, reserved in the store before it is used.

- Wraps are counted ahead, in blocks: a crash can only over-count (NIST SP 800-38D, section 8.3, bounds how
  often a key may be used with random nonces).
- A version that is used up is replaced at once, by whoever notices; nobody else needs to wait for an
  operator.
- The store may be ahead of the keyring: a change whose answer was lost, to a failure or to a peer that left,
  was committed all the same. It is caught up with.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import trio

from keyholt_agent.key_states import KeyState
from keyholt_agent.keys.master_key import ReserveWraps, RotateMaster
from keyholt_agent.store import AddMasterVersion, CountWraps, ReadMasterKeys
from keyholt_agent.vault.stored_keys import master_key_row
from keyholt_protocol.errors import AlreadyExistsError, ConflictError, IntegrityError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from keyholt_agent.clocks import WallClock
    from keyholt_agent.keys.master_key import WrapPermit
    from keyholt_agent.store import Store
    from keyholt_agent.vault.vault import Vault

__all__ = ["SECRETS_MASTER", "Permits"]

SECRETS_MASTER: Final = "default"
"""The master key that every store starts with, and that wraps the data keys of secrets."""


class Permits:
    """Gives permits to wrap under the master keys of a vault.

    Args:
        now: the time that a version is made at.
    """

    def __init__(self, vault: Vault, store: Store, *, now: WallClock) -> None:
        self._vault: Final = vault
        self._store: Final = store
        self._now: Final = now
        self._replenishing: Final = trio.Lock()

    async def permit(self, name: str) -> WrapPermit:
        """A permit for one wrap under the master key of that name; nothing is waited for while any are left.

        Raises:
            LockedError: the agent was locked meanwhile.
            StoreUnavailableError: a reservation cannot be committed.
        """
        while True:
            master = self._vault.keyring.masters.named(name)
            if master.need() is None:
                return master.permit()
            async with self.exclusive():
                await self._replenish(name)

    async def catch_up(self, name: str) -> None:
        """Take over what the store says of a master key, for a version that wrapped was retired."""
        async with self.exclusive():
            await self._catch_up(name)

    @asynccontextmanager
    async def exclusive(self) -> AsyncGenerator[None, None]:
        """Held while master keys change; nobody else changes one meanwhile, and nobody interrupts it."""
        async with self._replenishing:
            # Shielded: what was committed and not taken note of would be lost to everybody.
            with trio.CancelScope(shield=True):
                yield

    @asynccontextmanager
    async def several(self, name: str, count: int) -> AsyncGenerator[list[WrapPermit], None]:
        """Permits for so many wraps, all of one version, which stays the active one until the block ends.

        Raises:
            LockedError, StoreUnavailableError: as ``permit``.
        """
        async with self.exclusive():
            permits: list[WrapPermit] = []
            while len(permits) < count:
                master = self._vault.keyring.masters.named(name)
                if permits and not permits[-1].in_force:
                    permits.clear()  # the version was used up, and replaced
                if master.need() is None:
                    permits.append(master.permit())
                else:
                    await self._replenish(name)
            yield permits

    async def _replenish(self, name: str) -> None:
        """Commit what the master key needs before its next wrap, if it still needs it."""
        need = self._vault.keyring.masters.named(name).need()  # another task may have met it meanwhile
        try:
            match need:
                case ReserveWraps():
                    await self._reserve(name, need)
                case RotateMaster():
                    await self._rotate(need)
                case None:
                    return
        except (ConflictError, AlreadyExistsError):
            await self._catch_up(name)
            if self._vault.keyring.masters.named(name).need() == need:  # and would be refused again, for ever
                sentence = "the store contradicts itself about its master key; restore a backup"
                raise IntegrityError(sentence) from None

    async def _reserve(self, name: str, need: ReserveWraps) -> None:
        await self._store.ask(
            CountWraps(key_id=need.key_id, version=need.version, count=need.count, limit=need.limit)
        )
        self._vault.keyring.masters.named(name).granted(need)

    async def _rotate(self, need: RotateMaster) -> None:
        master = self._vault.keyring.masters.next_version(need)
        row = master_key_row(master, self._now())
        await self._store.ask(AddMasterVersion(row=row, retire=(need.key_id, need.version)))
        self._vault.keyring.masters.put_in_force(master)

    async def _catch_up(self, name: str) -> None:
        """Take over what the store says of the active version: its number, and what is reserved of it."""
        rows = await self._store.ask(ReadMasterKeys())
        active = [row for row in rows if row.name == name and row.state is KeyState.ACTIVE]
        if len(active) != 1:
            raise IntegrityError("the store does not have exactly one active master key; restore a backup")
        self._vault.keyring.masters.put_in_force(active[0])
