"""What handlers work with: the parts of a running agent and the few rules that join them.

- The store comes and goes apart from the keys: there may be none yet, and it may be locked.
- Locking is synchronous: when ``lock`` returns, every key is zero and nothing that was cached is left.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import AsyncGenerator, Hashable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio

from keyholt_agent.config import Settings
from keyholt_agent.keys.autolock import AutoLock, boottime
from keyholt_agent.keys.keyring import Keyring
from keyholt_agent.keys.throttle import UnlockThrottle
from keyholt_agent.memory import Arena
from keyholt_agent.metadata import forget_results
from keyholt_agent.principal import Principal
from keyholt_agent.quotas import ConnectionQuotas
from keyholt_agent.store import Store
from keyholt_protocol.errors import BusyError, LockedError, UninitialisedError
from keyholt_protocol.operations import Needs

__all__ = ["Services"]

MAX_CHANGES: Final = 5
"""Changes of keys of one principal, at about a second each; more are told to come back. By principal, so that
nobody's attempts keep another from unlocking."""


class Services:
    """Everything that a handler may use.

    Attributes:
        settings: the configuration.
        arena: locked memory.
        store: the store, which may not have been created yet.
        keyring: the keys, when unlocked.
        autolock: when the agent locks itself.
        throttle: who has to wait after wrong passphrases.
        connections: how many there are, and of whom.
        derivations: threads for Argon2, one at a time.
        reserving: held while wraps are reserved.
        store_path: for messages.
        store_id: hexadecimal, once it is known.
        locks_so_far: how often the agent was locked; tells an unlock under way that it came too late.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        arena: Arena,
        store: Store,
        store_path: Path,
        connections: ConnectionQuotas,
    ) -> None:
        self.settings: Final = settings
        self.arena: Final = arena
        self.store: Final = store
        self.store_path: Final = store_path
        self.connections: Final = connections
        self.keyring: Final = Keyring(arena)
        self.autolock: Final = AutoLock(settings.unlock.idle_timeout, settings.unlock.max_lifetime)
        self.throttle: Final = UnlockThrottle()
        self.derivations: Final = trio.CapacityLimiter(1)
        self.reserving: Final = trio.Lock()
        self.store_id: str | None = None
        self.locks_so_far = 0
        self._changing_keys: Final = trio.Lock()
        self._changing: Final[Counter[Hashable]] = Counter()  # by quota key, the one at work included
        self._started: Final = boottime()

    @property
    def initialised(self) -> bool:
        """Whether there is a store."""
        return self.store.initialised

    @property
    def state(self) -> str:
        """``uninitialised``, ``locked`` or ``unlocked``."""
        if not self.initialised:
            return "uninitialised"
        return "unlocked" if self.keyring.unlocked else "locked"

    @property
    def uptime(self) -> int:
        """Seconds since the agent started."""
        return int(boottime() - self._started)

    @property
    def locks_in(self) -> int | None:
        """Seconds until the agent locks itself; None if it will not."""
        deadline = self.autolock.deadline
        return None if math.isinf(deadline) else max(0, math.ceil(deadline - boottime()))

    def now(self) -> int:
        """Seconds since 1970-01-01 UTC."""
        return int(time.time())

    def require(self, needs: Needs) -> None:
        """Refuse what needs the agent to be in another state than it is.

        Raises:
            UninitialisedError, LockedError: see the message.
        """
        if needs is Needs.NOTHING:
            return
        if not self.initialised:
            raise UninitialisedError
        if needs is Needs.UNLOCKED:
            self.require_unlocked()

    def require_unlocked(self) -> None:
        """Refuse if the agent is locked, or was due to be; count it as use of the keys if not.

        Raises:
            LockedError: unlock it first.
        """
        if not self.keyring.unlocked:
            raise LockedError
        if not self.autolock.use():
            self.lock()
            raise LockedError

    def unlocked(self) -> None:
        """The keyring was filled: its time begins."""
        if self.keyring.unlocked:
            self.autolock.unlocked()

    def lock(self) -> None:
        """Zero every key and drop every cached record."""
        self.locks_so_far += 1
        self.keyring.lock()
        self.store.drop_cache()
        forget_results()
        self.autolock.locked()

    @asynccontextmanager
    async def key_change(self, principal: Principal) -> AsyncGenerator[None, None]:
        """Held while keyslots are opened or changed: one at a time, and few of one principal waiting.

        Raises:
            BusyError: too many of this principal's wait already.
        """
        if self._changing[principal.quota] >= MAX_CHANGES:
            raise BusyError("too many passphrases are being checked; try again in a few seconds")
        self._changing[principal.quota] += 1
        try:
            async with self._changing_keys:
                yield
        finally:
            self._changing[principal.quota] -= 1
