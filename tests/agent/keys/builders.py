"""Master keys as a store holds them, made by the custodian of software keys."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from keyholt_agent.key_states import Custody
from keyholt_agent.keys.custody import SealedMasterKey, SoftwareCustody
from keyholt_agent.keys.envelope import KeyReference, RecordType, key_reference
from keyholt_agent.keys.root import ROOT_WRAP_KEY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyholt_agent.keys.custody import Custodian

__all__ = ["MASTER_ID", "ROOT_REFERENCE", "STORE", "create", "custodians", "reference"]

STORE = bytes(range(16))
MASTER_ID = b"k" * 16

ROOT_REFERENCE = key_reference(RecordType.MASTER_KEY, ROOT_WRAP_KEY, 1)
"""How the records begin in which the root-derived key wraps master keys."""


def custodians(custody: SoftwareCustody) -> Mapping[Custody, Custodian]:
    """Software keys only."""
    return {Custody.SOFTWARE: custody}


def create(keeper: SoftwareCustody, version: int = 1, /, **changes: object) -> SealedMasterKey:
    """A version of one master key, with fields changed after it was sealed."""
    made: dict[str, Any] = changes
    return replace(keeper.create("default", MASTER_ID, version), **made)


def reference(key_id: bytes, version: int) -> KeyReference:
    """How a data key names the master key that wraps it."""
    return key_reference(RecordType.DATA_KEY, key_id, version)
