"""The vault: whether the store is open, the keys while it is, and nothing of them when it is locked.

- Every change of state goes through the table in ``state``; what an operation needs is asked here.
- Locking is synchronous: when ``lock`` returns, every key is zero, and nothing that was cached is left, nor
  of what was opened and has not left the agent (``when_locked``).
- Who unlocks slowly while somebody locks comes too late, and is told so: the later word counts.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from keyholt_agent.memory import Guarded
from keyholt_agent.vault.autolock import AutoLock
from keyholt_agent.vault.state import LockReason, VaultEvent, VaultState, after, refusals
from keyholt_protocol.errors import ContentionError, LockedError
from keyholt_protocol.operations import Needs

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyholt_agent.keys.keyring import Keyring

__all__ = ["Vault"]

_log: Final = logging.getLogger("keyholt.unlock")

_BY_ITSELF: Final = {
    LockReason.IDLE: "no key was used for as long as `[unlock] idle_timeout` says",
    LockReason.LIFETIME: "it was unlocked for as long as `[unlock] max_lifetime` says",
    LockReason.STORE_FAILURE: "the store failed, and may hold another root key since",
}
"""Why a vault was locked that nobody has locked. Whoever is asked to lock knows who asked, and logs that."""


class Vault(Guarded):
    """The state of one agent, and the keys of its store while that is unlocked.

    Args:
        initialised: whether there is a store.
        autolock: when it locks by itself.
        serve: called with the keys when they are there, with None once they are gone, to drop what was read
            with the ones before.

    Attributes:
        state: see ``state``.
        locked_because: why it is locked; None in the other states.
        locks: how often it was locked; see ``open``.
        store_id: of the store, once it is known.
    """

    def __init__(
        self, *, initialised: bool, autolock: AutoLock, serve: Callable[[Keyring | None], None]
    ) -> None:
        self.locks = 0
        self.store_id: bytes | None = None
        self._autolock: Final = autolock
        self._serve: Final = serve
        self._keyring: Keyring | None = None
        self._when_locked: Final[list[Callable[[], None]]] = []
        self.locked_because = LockReason.NEVER_UNLOCKED if initialised else None
        self._enter(VaultState.LOCKED if initialised else VaultState.UNINITIALISED)

    @property
    def keyring(self) -> Keyring:
        """The keys.

        Raises:
            LockedError: there are none; unlock first.
        """
        if self._keyring is None:
            raise LockedError
        return self._keyring

    def holds(self, keyring: Keyring) -> bool:
        """Whether these are its keys: they were taken in, and it was not locked since."""
        return self._keyring is keyring

    def require(self, needs: Needs) -> None:
        """Refuse what cannot be done in this state; what needs the keys counts as their use.

        Raises:
            UninitialisedError, LockedError: see the message.
        """
        if needs in self._refusals:
            raise self._refusals[needs]
        if needs is Needs.UNLOCKED and not self._autolock.use():
            # It was due to be locked, and nobody has come to it yet.
            self.lock(self._autolock.due() or LockReason.IDLE)
            raise LockedError

    def check(self, event: VaultEvent, *, locks: int | None = None) -> VaultState:
        """Refuse early what ``open`` would refuse, with its errors; gives the state that would follow."""
        following = after(self.state, event)
        if locks is not None and self.locks != locks:  # who locks means it, also for an unlock under way
            raise ContentionError("the agent was locked while it was being unlocked; try again")
        return following

    def open(self, keyring: Keyring, event: VaultEvent, *, locks: int) -> None:
        """Take the keys of a store that was created or unlocked. Owns them, even where it raises.

        Args:
            locks: the number of ``locks`` when the work for it began.

        Raises:
            ContentionError: it was locked since.
            UninitialisedError, AlreadyExistsError: it is in another state.
        """
        try:
            following = self.check(event, locks=locks)
        except BaseException:
            keyring.release()
            raise
        self._change_keys(keyring)
        self.store_id = keyring.store_id
        self._autolock.start()
        self.locked_because = None
        self._enter(following)

    def when_locked(self, forget: Callable[[], None]) -> None:
        """Have ``forget`` called in each lock, once the keys are gone: it drops what they opened."""
        self._when_locked.append(forget)

    def lock(self, reason: LockReason = LockReason.REQUEST) -> None:
        """Zero every key and drop what was read with them; again is harmless, and changes no reason."""
        following = after(self.state, VaultEvent.LOCK)
        self.locks += 1
        was_open = self._keyring is not None
        self._change_keys(None)
        self._autolock.stop()
        self._enter(following)
        if was_open:
            self.locked_because = reason
            if reason in _BY_ITSELF:
                _log.info("locked itself: %s", _BY_ITSELF[reason])
            for forget in self._when_locked:
                forget()

    async def lock_in_time(self) -> None:
        """Lock whenever the time for it has come, for ever."""
        await self._autolock.run(self.lock)

    def __repr__(self) -> str:
        return f"<Vault {self.state}>"

    def _enter(self, state: VaultState) -> None:
        self.state = state
        self._refusals = refusals(state)

    def _change_keys(self, keyring: Keyring | None) -> None:
        before, self._keyring = self._keyring, keyring
        if before is not None:
            before.release()
        self._serve(keyring)
