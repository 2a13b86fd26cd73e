"""What the store of an agent inside the test holds of keys, and changes to it behind the agent's back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from keyholt_agent.key_states import KeyState
from keyholt_agent.keys.envelope import read_header
from keyholt_agent.store import ReadMasterKeys, ReadSlotTable, ReadWrappedKeys
from keyholt_agent.store.commands import Command

if TYPE_CHECKING:
    from keyholt_agent.services import Services
    from keyholt_agent.store.sqlite.transaction import Transaction

__all__ = ["change_behind", "master_states", "root_version", "wrapped_by"]


async def root_version(services: Services) -> int:
    """That of the root key, of which all keyslots and all master keys are."""
    table = await services.store.ask(ReadSlotTable())
    masters = await services.store.ask(ReadMasterKeys())
    versions = {read_header(slot.wrapped_root).record_version for slot in table.slots}
    versions |= {
        read_header(row.wrapped).key_version for row in masters if row.state is not KeyState.DESTROYED
    }
    (version,) = versions
    return version


async def master_states(services: Services) -> list[KeyState]:
    """Of the versions of the one master key, the oldest first."""
    rows = await services.store.ask(ReadMasterKeys())
    return [row.state for row in sorted(rows, key=lambda row: row.version)]


async def wrapped_by(services: Services, version: int) -> list[str]:
    """The paths whose data keys a version of the one master key wraps."""
    key_id = (await services.store.ask(ReadMasterKeys()))[0].key_id
    asked = ReadWrappedKeys(key_id=key_id, version=version, after=0, most=1000)
    return [key.path for key in await services.store.ask(asked)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement(Command[list[Any]]):
    """SQL that is run in the store's thread; no seal moves with it."""

    text: str


def _run(transaction: Transaction, asked: Statement) -> list[Any]:
    return transaction.execute(asked.text).fetchall()


async def change_behind(services: Services, text: str) -> list[Any]:
    """Run a statement on the open store, as if somebody else had; its rows."""
    services.store._backend._answers[Statement] = _run  # type: ignore[attr-defined]
    return await services.store.ask(Statement(text=text))
