"""``agent``: the state of the whole: status, unlocking, locking."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Final

from keyholt_agent import __version__
from keyholt_agent.hardening import examine
from keyholt_agent.pipeline import Call, Reply
from keyholt_agent.rows import sealed_slots
from keyholt_agent.store import StoreStatistics
from keyholt_agent.unsealing import find_slot, unseal
from keyholt_protocol.errors import ContentionError, IntegrityError, StoreUnavailableError
from keyholt_protocol.limits import PROTOCOL_VERSION
from keyholt_protocol.messages import (
    AgentLockRequest,
    AgentLockResult,
    AgentStatusRequest,
    AgentStatusResult,
    AgentUnlockRequest,
    AgentUnlockResult,
)

if TYPE_CHECKING:
    from keyholt_agent.services import Services

__all__ = ["lock", "status", "unlock"]

_log: Final = logging.getLogger("keyholt.unlock")


async def status(services: Services, call: Call[AgentStatusRequest]) -> Reply[AgentStatusResult]:
    """Gather what every part says of itself. A store that fails is told of, not raised."""
    statistics, problem = await _store_statistics(services)
    usage = services.arena.usage
    result = AgentStatusResult(
        state=services.state,
        version=__version__,
        protocol=PROTOCOL_VERSION,
        pid=os.getpid(),
        uptime=services.uptime,
        store_path=os.fsencode(services.store_path).decode(errors="backslashreplace"),
        connections=services.connections.count,
        memory_backend=usage.backend,
        memory_size=usage.size,
        memory_used=usage.used,
        core_dumps=_core_dumps_possible(),
        cache_limit=services.settings.store.cache,
        cache_used=statistics.cache_bytes if statistics else 0,
        store_id=services.store_id,
        store_secrets=statistics.secrets if statistics else None,
        store_size=statistics.bytes if statistics else None,
        locks_in=services.locks_in,
        problem=problem,
    )
    return Reply(result=result)


async def unlock(services: Services, call: Call[AgentUnlockRequest]) -> Reply[AgentUnlockResult]:
    """Unseal the root key with the named keyslot, or with the first that opens."""
    async with services.key_change(call.principal):
        locks = services.locks_so_far
        table = await services.store.slot_table()
        slot = call.request.slot
        candidates = table.slots if slot is None else (find_slot(table, slot),)
        name, root = await unseal(services, call.principal, call.body, table, candidates)
        try:
            masters = await services.store.master_keys()
        except BaseException:
            root.release()
            raise
        if services.locks_so_far != locks:  # who locks means it, also for an unlock under way
            root.release()
            raise ContentionError("the agent was locked while it was being unlocked; try again")
        services.keyring.install(
            root,
            store_id=table.store_id,
            slots=sealed_slots(table.slots),
            table_mac=table.mac,
            master_keys=masters,
        )
        services.store_id = table.store_id.hex()
        services.unlocked()
    _log.info("unlocked with keyslot %s by %s", name, call.principal.name)
    return Reply(result=AgentUnlockResult(slot=name))


def lock(services: Services, call: Call[AgentLockRequest]) -> Reply[AgentLockResult]:
    """Zero the keys and drop what was cached, before the answer."""
    was_unlocked = services.keyring.unlocked
    services.lock()
    if was_unlocked:
        _log.info("locked by %s", call.principal.name)
    return Reply(result=AgentLockResult())


async def _store_statistics(services: Services) -> tuple[StoreStatistics | None, str | None]:
    if not services.initialised:
        return None, None
    try:
        return await services.store.statistics(), None
    except (StoreUnavailableError, IntegrityError) as error:
        return None, str(error)


def _core_dumps_possible() -> bool:
    found = examine()
    return found.dumpable or found.core_limit != (0, 0)
