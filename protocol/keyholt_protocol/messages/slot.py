"""``slot``: the keyslots."""

from __future__ import annotations

from dataclasses import dataclass

from keyholt_protocol.errors import InvalidRequestError
from keyholt_protocol.names import check_name

__all__ = [
    "SlotAddRequest",
    "SlotAddResult",
    "SlotInfo",
    "SlotListRequest",
    "SlotListResult",
    "SlotRemoveRequest",
    "SlotRemoveResult",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotListRequest:
    """Nothing to say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotInfo:
    """``kind``: ``passphrase``. ``kdf``: the key derivation and its cost, for people to read."""

    name: str
    kind: str
    created: int
    kdf: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotListResult:
    slots: tuple[SlotInfo, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotAddRequest:
    """Adds a keyslot, or with ``replace`` changes the passphrase of the one that has the name.

    The payload is the length of the first passphrase, 4 bytes, big-endian; a passphrase that opens an
    existing keyslot (with ``replace``, the very one); and the new passphrase, which is the rest. How long a
    passphrase is stands in no header.
    """

    name: str
    kind: str = "passphrase"
    replace: bool = False

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.kind != "passphrase":
            raise InvalidRequestError(
                "the kind of a keyslot must be 'passphrase'; this agent knows no other",
                details={"field": "kind"},
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotAddResult:
    name: str
    kdf: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotRemoveRequest:
    """The payload is a passphrase that opens one of the keyslots that stay."""

    name: str

    def __post_init__(self) -> None:
        check_name(self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotRemoveResult:
    name: str
