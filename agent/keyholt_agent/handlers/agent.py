"""``agent``: the state of the whole: status, unlocking, locking."""

from __future__ import annotations

import logging
import math
import os
from typing import TYPE_CHECKING, Final

from keyholt_agent import __version__
from keyholt_agent.clocks import boot_time
from keyholt_agent.hardening import examine
from keyholt_agent.pipeline import AnyBinding, Call, Reply, bind
from keyholt_agent.vault.state import VaultState
from keyholt_protocol import operations as ops
from keyholt_protocol.errors import IntegrityError, StoreUnavailableError
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
    from keyholt_agent.store import StoreStatistics
    from keyholt_agent.vault.unlocking import Unlocking

__all__ = ["bindings", "lock", "status", "unlock"]

_log: Final = logging.getLogger("keyholt.unlock")


def bindings(services: Services) -> tuple[AnyBinding, ...]:
    """The handlers of this domain's operations, each with the part of the agent that it works with."""
    return (
        bind(ops.AGENT_STATUS, status, services),
        bind(ops.AGENT_UNLOCK, unlock, services.unlocking),
        bind(ops.AGENT_LOCK, lock, services),
    )


async def status(services: Services, call: Call[AgentStatusRequest]) -> Reply[AgentStatusResult]:
    """Gather what every part says of itself. A store that fails is told of, not raised."""
    statistics, problem = await _store_statistics(services)
    vault, usage, now = services.vault, services.arena.usage, boot_time()
    check = services.unlocking.check
    result = AgentStatusResult(
        state=vault.state.value,
        version=__version__,
        protocol=PROTOCOL_VERSION,
        pid=os.getpid(),
        uptime=int(now - services.started),
        store_path=os.fsencode(services.store_path).decode(errors="backslashreplace"),
        connections=services.connections.count,
        memory_backend=usage.backend,
        memory_size=usage.size,
        memory_used=usage.used,
        core_dumps=_core_dumps_possible(),
        cache_limit=services.cache.limit,
        cache_used=services.cache.size,
        store_id=vault.store_id.hex() if vault.store_id else None,
        store_secrets=statistics.secrets if statistics else None,
        store_size=statistics.bytes if statistics else None,
        locked_because=vault.locked_because,
        idle_lock_in=_seconds_to(services.autolock.idle_deadline, now),
        lifetime_lock_in=_seconds_to(services.autolock.lifetime_deadline, now),
        checked_rows=check.done if check else None,
        checking_rows=check.rows if check else None,
        to_rewrap=services.rewrapping.left,
        problem=problem,
    )
    return Reply(result=result)


async def unlock(unlocking: Unlocking, call: Call[AgentUnlockRequest]) -> Reply[AgentUnlockResult]:
    """Unseal the root key with the named keyslot, or with the first that opens."""
    name = await unlocking.unlock(call.principal, call.body, call.request.slot)
    _log.info("unlocked with keyslot %s by %s", name, call.principal.name)
    return Reply(result=AgentUnlockResult(slot=name))


async def lock(services: Services, call: Call[AgentLockRequest]) -> Reply[AgentLockResult]:
    """Zero the keys and drop what was cached; nothing is committed after the answer."""
    vault = services.vault
    was = vault.state
    vault.lock()
    await services.store.settle()
    if was is VaultState.UNLOCKED:
        _log.info("locked by %s", call.principal.name)
    return Reply(result=AgentLockResult())


async def _store_statistics(services: Services) -> tuple[StoreStatistics | None, str | None]:
    if services.vault.state is VaultState.UNINITIALISED:
        return None, None
    try:
        return await services.store.statistics(), None
    except (StoreUnavailableError, IntegrityError) as error:
        return None, str(error)


def _seconds_to(deadline: float, now: float) -> int | None:
    """Whole seconds from now on, none to infinity."""
    return None if math.isinf(deadline) else max(0, math.ceil(deadline - now))


def _core_dumps_possible() -> bool:
    found = examine()
    return found.dumpable or found.core_limit != (0, 0)
