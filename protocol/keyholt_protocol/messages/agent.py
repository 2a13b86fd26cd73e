"""``agent``: the state of the whole."""

from __future__ import annotations

from dataclasses import dataclass

from keyholt_protocol.names import check_name

__all__ = [
    "AgentLockRequest",
    "AgentLockResult",
    "AgentStatusRequest",
    "AgentStatusResult",
    "AgentUnlockRequest",
    "AgentUnlockResult",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentStatusRequest:
    """Nothing to say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentStatusResult:
    """What the agent is and how it does.

    ``state`` is ``uninitialised``, ``locked`` or ``unlocked``. ``locked_because``: why it is locked, present
    only then: ``never_unlocked`` since the agent started, by ``request``, ``idle`` for too long, at the end
    of its ``lifetime``, or for a ``store_failure`` that left unknown which keys the store has.
    ``idle_lock_in``: seconds until it locks itself if no key is used; ``lifetime_lock_in``: in any case; each
    absent when it will not. ``memory_backend``: ``memfd_secret`` or ``mlock``. ``store_secrets`` counts the
    live secrets, absent while there is no store. ``checked_rows`` of ``checking_rows``: how far the check of
    the store has come, while an unlock is at it. ``to_rewrap``: data keys that wait for their rewrapping,
    absent when none does. ``problem``: why the store cannot be used, with the remedy.
    """

    state: str
    version: str
    protocol: int
    pid: int
    uptime: int
    store_path: str
    connections: int
    memory_backend: str
    memory_size: int
    memory_used: int
    core_dumps: bool
    cache_limit: int
    cache_used: int = 0
    store_id: str | None = None
    store_secrets: int | None = None
    store_size: int | None = None
    locked_because: str | None = None
    idle_lock_in: int | None = None
    lifetime_lock_in: int | None = None
    checked_rows: int | None = None
    checking_rows: int | None = None
    to_rewrap: int | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentUnlockRequest:
    """``slot``: the keyslot to try; without it every keyslot that a passphrase can open is tried.

    The payload is the passphrase.
    """

    slot: str | None = None

    def __post_init__(self) -> None:
        if self.slot is not None:
            check_name(self.slot, "slot")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentUnlockResult:
    """``slot``: the keyslot that opened."""

    slot: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentLockRequest:
    """Nothing to say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentLockResult:
    """Nothing to say."""
