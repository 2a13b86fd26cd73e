"""A peer of an agent that rewraps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from keyholt_agent.vault import rewrapping
from tests.agent.vault.rewrapped import PATHS

if TYPE_CHECKING:
    import trio

    from tests.support.inside import Inside, Peer


@pytest.fixture
async def peer(derived: Inside, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> Peer:
    """A peer of an agent with ten secrets, that rewraps three data keys at a time."""
    monkeypatch.setattr(rewrapping, "KEYS_AT_ONCE", 3)
    monkeypatch.setattr(rewrapping, "PAUSE", 0)
    nursery.start_soon(derived.services.rewrapping.run)
    peer = await derived.connect()
    for path in PATHS:
        (await peer.call("secret.put", path.encode(), path=path)).expect()
    return peer
