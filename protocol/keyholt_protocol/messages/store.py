"""``store``: its creation, and the keys of all of it."""

from __future__ import annotations

from dataclasses import dataclass

from keyholt_protocol.names import check_name

__all__ = ["StoreInitRequest", "StoreInitResult", "StoreRekeyRequest", "StoreRekeyResult"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreInitRequest:
    """``slot``: the name of the first keyslot. The payload is its passphrase."""

    slot: str = "passphrase"

    def __post_init__(self) -> None:
        check_name(self.slot, "slot")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreInitResult:
    """``store_id``: 32 hexadecimal digits. ``kdf``: the key derivation chosen, as ``slot.list`` shows it."""

    store_id: str
    slot: str
    kdf: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreRekeyRequest:
    """Nothing to say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreRekeyResult:
    """``root_version``: of the new root key, one more than before. ``to_rewrap``: data keys that older
    versions of master keys have wrapped; they are rewrapped from now on, as ``agent.status`` tells.
    """

    root_version: int
    to_rewrap: int
