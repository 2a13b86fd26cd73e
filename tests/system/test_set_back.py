"""A store that is not as the agent left it stays locked: whatever was set back, hidden, left out or added.

Each change is one that no record tells of: what is changed is genuine, or stands beside what is sealed. Which
columns there are is gone through in ``tests/agent/store/sqlite/test_forged_rows.py``.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.agent_process import PASSPHRASE, AgentProcess, poll
from tests.support.prepared import Preparation, PreparedAgent
from tests.support.store_keys import keys_of, reseal
from tests.support.tampering import edit, look
from tests.support.unharmed import KEPT, KEPT_PATH, keep_one
from tests.support.wire import two_passphrases

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SECOND: Final = b"a second passphrase"

OF: Final = "(SELECT v.id FROM secret_version v JOIN secret s ON s.id = v.secret_id WHERE path = '{}')"
LAST: Final = "(SELECT max(id) FROM {})"
PATHS: Final = (
    "twice", "live", "deleted", "destroyed", "damaged", "moved", "left out", "not there", "numbered",
    "described", "emptied", "replaced", "keyless",
)  # fmt: skip
COPIED: Final = "secret_id, 3, created, metadata, value FROM secret_version"

SET_BACK: Final[dict[str, list[str]]] = {
    "an old version as the latest": ["UPDATE secret SET latest = 1 WHERE path = 'twice'"],
    "a tombstone set": ["UPDATE secret SET deleted_at = 1 WHERE path = 'live'"],
    "a tombstone taken away": ["UPDATE secret SET deleted_at = NULL WHERE path = 'deleted'"],
    "a path": ["UPDATE secret SET path = 'hidden' WHERE path = 'moved'"],
    "a path left out": ["DELETE FROM secret WHERE path = 'left out'"],
    "a path added": [f"INSERT INTO secret SELECT {LAST.format('secret')} + 1, 'new', 1, NULL"],
    "a version left out": [
        f"DELETE FROM data_key WHERE id = {OF.format('not there')}",
        f"DELETE FROM secret_version WHERE id = {OF.format('not there')}",
    ],
    "a version added": [
        f"INSERT INTO secret_version SELECT id + 1, {COPIED} WHERE id = {LAST.format('secret_version')}",
        f"INSERT INTO data_key SELECT id + 1, 1001, x'00' FROM data_key WHERE id = {LAST.format('data_key')}",
    ],
    "a version's number": [f"UPDATE secret_version SET version = 7 WHERE id = {OF.format('numbered')}"],
    "its metadata": [f"UPDATE secret_version SET metadata = x'80' WHERE id = {OF.format('described')}"],
    "its value left out": [f"UPDATE secret_version SET value = NULL WHERE id = {OF.format('emptied')}"],
    "a value brought back": ["UPDATE secret_version SET value = x'00' WHERE value IS NULL"],
    "a data key": [f"UPDATE data_key SET wrapped_key = x'00' WHERE id = {OF.format('replaced')}"],
    "who wrapped it": ["UPDATE data_key SET master_key = 1000"],
    "the state of a master key": ["UPDATE master_key SET state = 'compromised' WHERE version = 1"],
    "the wraps of a master key": ["UPDATE master_key SET wraps_reserved = 0 WHERE version = 2"],
    "a master key that was retiring": ["UPDATE master_key SET retiring = 0 WHERE version = 1"],
    "a master key that is retiring": ["UPDATE master_key SET retiring = 1 WHERE version = 2"],
    "a keyslot's place": ["UPDATE keyslot SET position = 9 WHERE name = 'second'"],
    "the age of the store": ["UPDATE store_meta SET created = 1"],
}
"""What the sealed state alone tells of."""

REFUSED_BEFORE: Final[dict[str, list[str]]] = {
    "a data key left out": [f"DELETE FROM data_key WHERE id = {OF.format('keyless')}"],
    "a master key left out": ["DELETE FROM master_key WHERE version = 2"],
    "an older master key active": [
        "UPDATE master_key SET state = 'decrypt_only' WHERE version = 2",
        "UPDATE master_key SET state = 'active' WHERE version = 1",
    ],
    "a keyslot left out": ["DELETE FROM keyslot WHERE name = 'second'"],
    "a keyslot's name": ["UPDATE keyslot SET name = 'another' WHERE name = 'passphrase'"],
    "the state": ["UPDATE store_meta SET sealed_state = zeroblob(length(sealed_state))"],
}
"""What is refused before all rows are added up."""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, preparation: Preparation) -> Path:
    """The state directory of an agent with two keyslots and every kind of secret, after a rekey.

    One data key was damaged before that, so version 1 of the master key is still there, and retiring.
    """
    with PreparedAgent(tmp_path_factory.mktemp("template"), preparation=preparation) as agent:
        agent.start_new()
        keep_one(agent)
        with agent.connect() as client:
            client.call("slot.add", two_passphrases(PASSPHRASE, SECOND), name="second").expect()
            for path in PATHS:
                client.put(path, path.encode())
            client.put("twice", b"the newer value")
            client.call("secret.delete", path="deleted").expect()
            client.call("secret.destroy", path="destroyed", version=1).expect()
        agent.stop()
        edit(agent, (f"UPDATE data_key SET wrapped_key = x'01' WHERE id = {OF.format('damaged')}", ()))
        reseal(agent.state, keys_of(agent.state, {"passphrase": PASSPHRASE}, {}, cheap=True)[0])
        agent.start_unlocked()
        with agent.connect() as client:
            client.call("store.rekey").expect()
            poll(lambda: "1 data keys cannot be rewrapped" in agent.log)
    return agent.state


@pytest.fixture(scope="module")
def keys(template: Path) -> Mapping[str, bytes]:
    """Those of the template."""
    return keys_of(template, {"passphrase": PASSPHRASE}, {}, cheap=True)[0]


@pytest.fixture
def stored(agent: AgentProcess, template: Path) -> AgentProcess:
    """A stopped agent with the store of the template."""
    shutil.copytree(template, agent.state)
    return agent


def change(agent: AgentProcess, statements: list[str]) -> None:
    """Change the store of a stopped agent; each statement changes something."""
    before = dump(agent)
    edit(agent, *((statement, ()) for statement in statements))
    assert dump(agent) != before


def dump(agent: AgentProcess) -> list[str]:
    """All that is in the store."""
    with closing(sqlite3.connect(agent.store)) as database:
        return list(database.iterdump())


def check_refused(agent: AgentProcess, named: str) -> None:
    """It does not unlock, says why, and serves nothing."""
    agent.start()
    with agent.connect() as client:
        refused = client.call("agent.unlock", PASSPHRASE)
        assert refused.code == "integrity"
        assert named in refused.message
        assert client.status()["state"] == "locked"
        for path in (KEPT_PATH, "twice"):
            assert client.call("secret.get", path=path).code == "locked"
        assert client.call("secret.put", b"v", path=KEPT_PATH).code == "locked"


@pytest.mark.parametrize("what", SET_BACK)
def test_what_was_set_back_is_not_served(stored: AgentProcess, what: str) -> None:
    """Nothing of the store is, whichever row it was."""
    change(stored, SET_BACK[what])
    check_refused(stored, "not as the agent left it")


@pytest.mark.parametrize("what", REFUSED_BEFORE)
def test_what_contradicts_itself_is_not_served(stored: AgentProcess, what: str) -> None:
    """Nor what older checks find."""
    change(stored, REFUSED_BEFORE[what])
    check_refused(stored, "restore a backup")


def test_an_older_state_is_not_the_state_of_this_store(stored: AgentProcess) -> None:
    """The record is as the agent sealed it, under the same keys, of the same rows but one."""
    ((older,),) = look(stored, "SELECT sealed_state FROM store_meta")
    stored.start_unlocked()
    with stored.connect() as client:
        client.put("twice", b"the newest value")
    stored.stop()
    edit(stored, ("UPDATE store_meta SET sealed_state = ?", (older,)))
    check_refused(stored, "not as the agent left it")


def test_an_untouched_store_is_served(stored: AgentProcess) -> None:
    """The control: the very same store, also after somebody who has the keys sealed its state anew."""
    stored.start_unlocked()
    with stored.connect() as client:
        assert client.get(KEPT_PATH) == KEPT
        assert client.get("twice") == b"the newer value"
    stored.stop()
    before = look(stored, "SELECT sealed_state FROM store_meta")
    reseal(stored.state, keys_of(stored.state, {"second": SECOND}, {}, cheap=True)[0])
    assert look(stored, "SELECT sealed_state FROM store_meta") != before
    stored.start_unlocked()
    with stored.connect() as client:
        assert client.get(KEPT_PATH) == KEPT
        client.put("twice", b"the newest value")
    stored.stop()
    stored.start_unlocked()


def test_nothing_but_the_seal_tells(stored: AgentProcess, keys: Mapping[str, bytes]) -> None:
    """The control of what is refused: all of it together, sealed anew, is served, an old value too."""
    for what in SET_BACK.values():
        change(stored, what)
    reseal(stored.state, keys)
    stored.start_unlocked()
    with stored.connect() as client:
        assert client.get(KEPT_PATH) == KEPT
        assert client.get("twice") == b"twice"
        assert client.get("deleted") == b"deleted"
        assert client.call("secret.get", path="live").code == "not_found"
