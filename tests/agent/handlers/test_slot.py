"""``slot``: what of its changes is logged."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from tests.support.agent_process import PASSPHRASE
from tests.support.wire import two_passphrases

if TYPE_CHECKING:
    import pytest

    from tests.support.inside import Inside


async def test_changes_are_logged(derived: Inside, caplog: pytest.LogCaptureFixture) -> None:
    """Each by its keyslot and its peer, and no refusal; no passphrase is in it."""
    caplog.set_level(logging.INFO, "keyholt.slot")
    client = await derived.connect()
    both = two_passphrases(PASSPHRASE, b"battery staple")
    (await client.call("slot.add", both, name="spare")).expect()
    assert (await client.call("slot.add", both, name="spare")).code == "already_exists"
    changed = two_passphrases(b"battery staple", b"correct horse")
    (await client.call("slot.add", changed, name="spare", replace=True)).expect()
    (await client.call("slot.remove", PASSPHRASE, name="spare")).expect()
    pid = (await client.call("agent.status")).expect().result["pid"]
    said = [record.getMessage() for record in caplog.records if record.name == "keyholt.slot"]
    by = f"by uid 4711, pid {pid}"
    assert said == [f"{done} keyslot spare {by}" for done in ("added", "changed", "removed")]
