"""``store``: what of its making is logged."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from tests.support.agent_process import PASSPHRASE
from tests.support.inside import serving

if TYPE_CHECKING:
    import pytest
    import trio

    from keyholt_agent.services import Services


async def test_the_making_is_logged(
    services: Services, nursery: trio.Nursery, cheap_derivations: None, caplog: pytest.LogCaptureFixture
) -> None:
    """Who made the store, and with which keyslot, is one line, as of an unlocking; a refusal is none."""
    caplog.set_level(logging.INFO)
    async with serving(services, nursery) as inside:
        client = await inside.connect()
        (await client.call("store.init", PASSPHRASE, slot="first")).expect()
        assert (await client.call("store.init", PASSPHRASE)).code == "already_exists"
        pid = (await client.call("agent.status")).expect().result["pid"]
    said = [record.getMessage() for record in caplog.records]
    assert said == [f"created the store with keyslot first by uid 4711, pid {pid}"]
