"""Locked memory: the only place where keys, passphrases and secret values are held."""

from __future__ import annotations

from keyholt_agent.memory.arena import Arena, ArenaUsage, LockedBuffer, MemorySettings
from keyholt_agent.memory.backing import Backend, BackendChoice, LockedMemoryError, memlock_limit
from keyholt_agent.memory.guard import Guarded, Owner, wipe

__all__ = [
    "Arena",
    "ArenaUsage",
    "Backend",
    "BackendChoice",
    "Guarded",
    "LockedBuffer",
    "LockedMemoryError",
    "MemorySettings",
    "Owner",
    "memlock_limit",
    "wipe",
]
