"""Agents inside the test: locked memory, services, a store, with and without a passphrase."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from keyholt_agent.config import Settings, UnlockSettings
from keyholt_agent.keys import kdf
from keyholt_agent.memory import Arena
from keyholt_agent.memory.backing import open_backing
from keyholt_agent.quotas import ConnectionQuotas
from keyholt_agent.services import Services
from keyholt_agent.store import open_store
from keyholt_agent.vault.secret_cache import SecretCache
from tests.support.agent_process import PASSPHRASE
from tests.support.derivations import cheapened
from tests.support.inside import Inside, create_store, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    import trio

ARENA: Final = 4 * 1024 * 1024


@pytest.fixture
def arena() -> Iterator[Arena]:
    """Locked memory; every block has to be back in the end."""
    arena = Arena(open_backing("auto", ARENA))
    yield arena
    used = arena.usage.used
    arena.close()
    assert used == 0


@pytest.fixture
def settings() -> Settings:
    """The fastest key derivation that is allowed, and no automatic locking."""
    return Settings(unlock=UnlockSettings(kdf_target=0, idle_timeout=0, max_lifetime=0))


@pytest.fixture
async def services(arena: Arena, settings: Settings, tmp_path: Path) -> AsyncIterator[Services]:
    """The parts of an agent without a store yet."""
    cache = SecretCache(settings.store.cache)
    async with open_store(tmp_path, cache) as store:
        services = Services(
            settings=settings,
            arena=arena,
            cache=cache,
            store=store,
            store_path=tmp_path / "store.db",
            connections=ConnectionQuotas(100, frozenset()),
        )
        yield services
        services.vault.lock()


@pytest.fixture
async def inside(services: Services, nursery: trio.Nursery) -> AsyncIterator[Inside]:
    """An unlocked agent; its keyslot opens with no passphrase, for no time was spent on it."""
    await create_store(services)
    async with serving(services, nursery) as one:
        yield one


@pytest.fixture
def cheap_derivations() -> Iterator[None]:
    """Passphrases cost next to nothing; see ``tests.support.derivations``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kdf, "_argon2id", cheapened(kdf._argon2id))
        yield


@pytest.fixture
async def derived(
    services: Services, nursery: trio.Nursery, cheap_derivations: None
) -> AsyncIterator[Inside]:
    """An unlocked agent whose store was made with ``PASSPHRASE``, by the operation for it."""
    async with serving(services, nursery) as one:
        client = await one.connect()
        (await client.call("store.init", PASSPHRASE)).expect()
        yield one
