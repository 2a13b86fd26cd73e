"""What is said of a key version in the store: its state, and where the key lives."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Custody", "KeyState"]


class KeyState(StrEnum):
    """The states of a key version (NIST SP 800-57, part 1, section 7)."""

    PENDING = "pending"
    ACTIVE = "active"
    DECRYPT_ONLY = "decrypt_only"
    COMPROMISED = "compromised"
    DESTROYED = "destroyed"


class Custody(StrEnum):
    """Where a master key lives."""

    SOFTWARE = "software"
    TOKEN_WRAPPED = "token-wrapped"
    TOKEN_RESIDENT = "token-resident"
