"""Rewrapping: what a retiring version of a master key has wrapped, the active one wraps, in the background.

- It serves whoever fetches and writes meanwhile: a batch is a millisecond of the loop and two of the store.
- A lock ends it and a crash interrupts it; the next unlock goes on with what is left. Each batch is a
  transaction, and takes only what has not changed since it was read.
- Whatever fails it outlives, a defect too: the keys stay where they are, and it is tried again.
- A version that wraps nothing any more is destroyed. Its key stays in locked memory until the next lock, for
  whoever has read a record before it was rewrapped and opens it after.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import trio

from keyholt_agent.defects import log_defect
from keyholt_agent.store import (
    CountRetiringKeys,
    MasterRetiredError,
    ReadMasterKeys,
    ReadWrappedKeys,
    RetireMasterVersion,
    RewrapKeys,
)
from keyholt_protocol.errors import IntegrityError, KeyholtError, LockedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keyholt_agent.store import MasterKeyRow, Store, WrappedKey
    from keyholt_agent.vault.permits import Permits
    from keyholt_agent.vault.vault import Vault

__all__ = ["Rewrapping"]

KEYS_AT_ONCE: Final = 128
"""Data keys of one batch."""

PAUSE: Final = 5.0
"""Seconds after which it is tried again where it failed: twice as many after each further failure."""

LONGEST_PAUSE: Final = 600.0
"""Seconds: what fails for good says so in the log six times an hour."""

_log: Final = logging.getLogger("keyholt.rewrap")


class Rewrapping:
    """Rewraps the data keys of a vault.

    Attributes:
        left: data keys that are still to be rewrapped, 0 before they are counted; None if there are none.
    """

    def __init__(self, vault: Vault, store: Store, permits: Permits) -> None:
        self.left: int | None = None
        self._vault: Final = vault
        self._store: Final = store
        self._permits: Final = permits
        self._wanted = trio.Event()

    def begin(self) -> None:
        """There may be something to rewrap; called after each unlock, and each change of the root key."""
        self.left = self.left or 0
        self._wanted.set()

    async def run(self) -> None:
        """Rewrap whenever there is something to, for ever."""
        pause = PAUSE
        while True:
            await self._wanted.wait()
            self._wanted = trio.Event()
            if await self._try():
                pause = PAUSE
                if not self._wanted.is_set():
                    self.left = None
                continue
            with trio.move_on_after(pause):
                await self._wanted.wait()  # whoever unlocks, or changes the root key, has it tried at once
            pause = min(2 * pause, LONGEST_PAUSE)
            self._wanted.set()

    async def _try(self) -> bool:
        """Rewrap what there is; false if that failed, and is to be tried again."""
        try:
            await self._rewrap_all()
        except LockedError:
            pass  # the next unlock goes on
        except KeyholtError as error:
            _log.warning("data keys are not rewrapped yet: %s", error)
            return False
        except Exception as error:
            log_defect(error)
            return False
        return True

    async def _rewrap_all(self) -> None:
        stayed = 0
        # A change of the root key meanwhile adds to what there is to do, and it begins anew.
        while retiring := [row for row in await self._store.ask(ReadMasterKeys()) if row.retiring]:
            self.left = await self._store.ask(CountRetiringKeys())
            try:
                stay = sum([await self._rewrap(version) for version in retiring])
            except MasterRetiredError:
                continue
            if stay and stay == stayed:  # what only changed meanwhile is rewrapped the second time
                _log.error("%d data keys cannot be rewrapped, for they are damaged", stay)
                return
            stayed = stay

    async def _rewrap(self, master: MasterKeyRow) -> int:
        """Rewrap what a version has wrapped, and destroy it; gives how many data keys stay."""
        after = stay = 0
        while keys := await self._store.ask(
            ReadWrappedKeys(key_id=master.key_id, version=master.version, after=after, most=KEYS_AT_ONCE)
        ):
            after = keys[-1].row
            stay += await self._rewrap_batch(master.name, keys)
            self.left = max(0, (self.left or 0) - len(keys))
        if not stay:
            await self._store.ask(RetireMasterVersion(key_id=master.key_id, version=master.version))
            _log.info(
                "version %d of master key %r wraps nothing, and is destroyed", master.version, master.name
            )
        return stay

    async def _rewrap_batch(self, name: str, keys: Sequence[WrappedKey]) -> int:
        """Rewrap data keys; gives how many of them stay: those that are damaged, or changed meanwhile."""
        active = self._vault.keyring.masters.named(name).active
        if active is None:
            raise LockedError
        # By who has wrapped them: within a batch a master key may be used up, and replaced. What was
        # destroyed has no key, and only comes to refer to another version.
        rewrapped: dict[tuple[bytes, int], list[tuple[WrappedKey, bytes]]] = {
            (active.key_id, active.version): [(key, key.wrapped) for key in keys if key.destroyed]
        }
        done = 0
        for key in keys:
            if key.destroyed:
                continue
            permit = await self._permits.permit(name)
            secrets = self._vault.keyring.secrets
            try:
                new = await secrets.rewrap(permit, key.path, key.version, key.metadata, key.wrapped)
            except (IntegrityError, UnicodeEncodeError):  # a path that is no text, which only damage makes
                continue
            by = (new.master_id, new.master_version)
            rewrapped.setdefault(by, []).append((key, new.wrapped_key))
        for (key_id, version), of_version in rewrapped.items():
            if of_version:
                rewrapping = RewrapKeys(keys=tuple(of_version), key_id=key_id, version=version)
                done += await self._store.ask(rewrapping)
        return len(keys) - done
