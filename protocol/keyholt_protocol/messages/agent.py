"""``session``, ``store`` and ``agent``: opening a connection, the store's creation, the agent's state."""

from __future__ import annotations

from dataclasses import dataclass

from keyholt_protocol.errors import InvalidRequestError
from keyholt_protocol.limits import MAX_CLIENT_NAME
from keyholt_protocol.names import check_name

__all__ = [
    "HelloRequest",
    "HelloResult",
    "InitRequest",
    "InitResult",
    "LockRequest",
    "LockResult",
    "StatusRequest",
    "StatusResult",
    "UnlockRequest",
    "UnlockResult",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class HelloRequest:
    """``version``: the protocol version spoken. ``client``: a name for logs, such as ``keyholt 0.1.0``."""

    version: int
    client: str = ""

    def __post_init__(self) -> None:
        if len(self.client) > MAX_CLIENT_NAME or not self.client.isprintable():
            raise InvalidRequestError(
                f"the client's name must be at most {MAX_CLIENT_NAME} printable characters"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class HelloResult:
    """``max_payload``: bytes. ``max_in_flight``: requests that may be open at once on this connection."""

    version: int
    agent: str
    max_payload: int
    max_in_flight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InitRequest:
    """``slot``: the name of the first keyslot. The payload is its passphrase."""

    slot: str = "passphrase"

    def __post_init__(self) -> None:
        check_name(self.slot, "slot's name")


@dataclass(frozen=True, slots=True, kw_only=True)
class InitResult:
    """``store_id``: 32 hexadecimal digits. ``kdf``: the key derivation chosen, as ``slot.list`` shows it."""

    store_id: str
    slot: str
    kdf: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusRequest:
    """Nothing to say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusResult:
    """What the agent is and how it does.

    ``state`` is ``uninitialised``, ``locked`` or ``unlocked``. ``locks_in``: seconds until it locks itself,
    absent when it will not. ``memory_backend``: ``memfd_secret`` or ``mlock``. ``store_secrets`` counts the
    live secrets, absent while there is no store. ``problem``: why the store cannot be used, with the remedy.
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
    locks_in: int | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UnlockRequest:
    """``slot``: the keyslot to try; without it every keyslot that a passphrase can open is tried.

    The payload is the passphrase.
    """

    slot: str | None = None

    def __post_init__(self) -> None:
        if self.slot is not None:
            check_name(self.slot, "slot's name")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnlockResult:
    """``slot``: the keyslot that opened."""

    slot: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LockRequest:
    """Nothing to say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LockResult:
    """Nothing to say."""
