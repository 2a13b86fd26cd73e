"""The parts of a running agent, wired to each other. Handlers are bound to the one that they work with."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import trio

from keyholt_agent.clocks import boot_time, wall_time
from keyholt_agent.keys.randomness import KERNEL
from keyholt_agent.memory.available import available_memory
from keyholt_agent.vault.autolock import AutoLock
from keyholt_agent.vault.keyslots import Keyslots
from keyholt_agent.vault.passphrases import Passphrases
from keyholt_agent.vault.permits import Permits
from keyholt_agent.vault.rekeying import Rekeying
from keyholt_agent.vault.relocation import Relocation
from keyholt_agent.vault.rewrapping import Rewrapping
from keyholt_agent.vault.secrets import Secrets
from keyholt_agent.vault.unlocking import Unlocking
from keyholt_agent.vault.vault import Vault

if TYPE_CHECKING:
    from pathlib import Path

    from keyholt_agent.config import Settings
    from keyholt_agent.memory import Arena
    from keyholt_agent.quotas import ConnectionQuotas
    from keyholt_agent.store import Store
    from keyholt_agent.vault.secret_cache import SecretCache

__all__ = ["Services"]


class Services:
    """Everything that the handlers of an agent work with.

    Attributes:
        settings: the configuration.
        arena: locked memory.
        cache: the secrets that were used last; the store tells it what changes.
        store: the store, which may not have been created yet.
        store_path: for messages.
        connections: how many there are, and of whom.
        autolock: when the vault locks by itself.
        vault: what is open.
        passphrases: turns them into keys.
        unlocking: makes the store, and unlocks it.
        keyslots: who may unlock it.
        permits: to wrap under master keys.
        rewrapping: what goes on below master keys that were replaced.
        secrets: reads and writes secrets.
        relocation: moves and copies them.
        started: when the agent started, in seconds since boot.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        arena: Arena,
        cache: SecretCache,
        store: Store,
        store_path: Path,
        connections: ConnectionQuotas,
    ) -> None:
        self.settings: Final = settings
        self.arena: Final = arena
        self.cache: Final = cache
        self.store: Final = store
        self.store_path: Final = store_path
        self.connections: Final = connections
        self.started: Final = boot_time()
        unlock = settings.unlock
        self.autolock: Final = AutoLock(unlock.idle_timeout, unlock.max_lifetime, boot_time)
        self.vault: Final = Vault(initialised=store.initialised, autolock=self.autolock, serve=cache.serve)
        self.passphrases: Final = Passphrases(
            arena,
            target=unlock.kdf_target,
            clock=trio.current_time,
            stopwatch=time.perf_counter,
            free_memory=available_memory,
        )
        self.permits: Final = Permits(self.vault, store, now=wall_time)
        self.rewrapping: Final = Rewrapping(self.vault, store, self.permits)
        self.unlocking: Final = Unlocking(
            self.vault,
            store,
            arena,
            self.passphrases,
            self.rewrapping,
            now=wall_time,
            randomness=KERNEL,
        )
        rekeying = Rekeying(self.vault, store, self.permits, self.rewrapping, now=wall_time)
        self.keyslots: Final = Keyslots(
            self.vault, store, self.passphrases, rekeying, now=wall_time, randomness=KERNEL
        )
        self.secrets: Final = Secrets(self.vault, store, cache, self.permits)
        self.relocation: Final = Relocation(self.vault, store, self.permits)
