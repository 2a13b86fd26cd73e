"""Making the store, and unlocking it: the two ways in which keys come into the vault."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from keyholt_agent.keys.keyring import Keyring
from keyholt_agent.keys.keyslots import passphrase_slot
from keyholt_agent.store import CreateStore, ReadMasterKeys, ReadSlotTable
from keyholt_agent.vault.keyslots import find_slot
from keyholt_agent.vault.passphrases import check_passphrase
from keyholt_agent.vault.permits import SECRETS_MASTER
from keyholt_agent.vault.state import VaultEvent
from keyholt_agent.vault.stored_keys import store_seed, stored_slots

if TYPE_CHECKING:
    from keyholt_agent.clocks import WallClock
    from keyholt_agent.keys.keyslots import Keyslot, KeyslotDraft
    from keyholt_agent.keys.randomness import Randomness
    from keyholt_agent.keys.recipients import Identity
    from keyholt_agent.memory import Arena
    from keyholt_agent.principal import Principal
    from keyholt_agent.sealed_state import CheckProgress
    from keyholt_agent.store import Store
    from keyholt_agent.vault.passphrases import Passphrases
    from keyholt_agent.vault.rewrapping import Rewrapping
    from keyholt_agent.vault.vault import Vault

__all__ = ["Unlocking"]


class Unlocking:
    """Creates and unlocks the store of a vault.

    Args:
        now: the time that a keyslot is made at.

    Attributes:
        check: how far the check of the store is, while an unlock is at it; None at all other times.
    """

    def __init__(
        self,
        vault: Vault,
        store: Store,
        arena: Arena,
        passphrases: Passphrases,
        rewrapping: Rewrapping,
        *,
        now: WallClock,
        randomness: Randomness,
    ) -> None:
        self._vault: Final = vault
        self._store: Final = store
        self._arena: Final = arena
        self._passphrases: Final = passphrases
        self._rewrapping: Final = rewrapping
        self._now: Final = now
        self._randomness: Final = randomness
        self.check: CheckProgress | None = None

    async def create(self, principal: Principal, name: str, passphrase: memoryview) -> tuple[bytes, Keyslot]:
        """Create the store with one passphrase keyslot and one master key, and unlock it.

        Returns:
            The store's id, and the keyslot.

        Raises:
            AlreadyExistsError: there is one.
        """
        check_passphrase(passphrase)
        async with self._passphrases.turn(principal):
            self._vault.check(VaultEvent.CREATE)
            parameters = await self._passphrases.calibrated()
            draft = passphrase_slot(name, self._now(), parameters, self._randomness)
            with await self._passphrases.derive(draft, passphrase) as identity:
                return await self.create_with(draft, identity)

    async def create_with(self, draft: KeyslotDraft, identity: Identity) -> tuple[bytes, Keyslot]:
        """Create the store with the keyslot of a draft, whose identity was derived, and unlock it."""
        locks = self._vault.locks
        keyring, new = Keyring.create(self._arena, draft, identity, SECRETS_MASTER, self._randomness)
        try:
            # Shielded: whether there is a store has to be known afterwards, and its keys are here only.
            with trio.CancelScope(shield=True):
                await self._store.ask(CreateStore(seed=store_seed(new), keeper=keyring.state))
        except BaseException:
            keyring.release()
            raise
        self._vault.open(keyring, VaultEvent.CREATE, locks=locks)
        return new.store_id, new.slot

    async def unlock(self, principal: Principal, passphrase: memoryview, slot: str | None) -> str:
        """Unseal the root key with the named keyslot, or with the first that opens, whose name it gives.

        Raises:
            ContentionError: somebody locked meanwhile.
            NotFoundError, UnlockFailedError, RateLimitedError, IntegrityError: see the message.
        """
        async with self._passphrases.turn(principal):
            locks = self._vault.locks
            table = await self._store.ask(ReadSlotTable())
            candidates = table.slots if slot is None else (find_slot(table, slot),)
            name, root = await self._passphrases.open_keyslot(principal, passphrase, table, candidates)
            try:
                masters = await self._store.ask(ReadMasterKeys())
            except BaseException:
                root.release()
                raise
            keyring = Keyring.open(
                self._arena,
                root,
                store_id=table.store_id,
                slots=stored_slots(table.slots),
                table_mac=table.mac,
                master_keys=masters,
                randomness=self._randomness,
            )
            try:
                await self._store.unseal(keyring.state, partial(self._checked, locks))
            except BaseException:
                keyring.release()
                raise
            finally:
                self.check = None
            self._vault.open(keyring, VaultEvent.UNLOCK, locks=locks)
        self._rewrapping.begin()
        return name

    def _checked(self, locks: int, progress: CheckProgress) -> None:
        """Take down how far the check is; nobody needs the rest of it once the agent was locked."""
        self._vault.check(VaultEvent.UNLOCK, locks=locks)
        self.check = progress
