"""Revocation, against a real agent: who keeps an old copy and an old passphrase gets nothing that is newer.

The attacker here is a program of its own that knows the documented formats (``store_keys``): it takes the
keys out of a copy of the store, and tries them on the file of today.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from cryptography.exceptions import InvalidTag

from tests.support.agent_process import PASSPHRASE, AgentProcess, poll
from tests.support.store_keys import keys_of, opened_with
from tests.support.wire import two_passphrases

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.wire import WireClient

OTHER = b"the passphrase of somebody who left"
NEW = b"a passphrase that nobody had before"


def add_other(client: WireClient) -> None:
    """Give somebody a keyslot of their own."""
    client.call("slot.add", two_passphrases(PASSPHRASE, OTHER), name="other").expect()


def remove_other(client: WireClient) -> None:
    """Take it away again."""
    client.call("slot.remove", PASSPHRASE, name="other").expect()


def change_other(client: WireClient) -> None:
    """Put another passphrase in its place."""
    payload = two_passphrases(OTHER, NEW)
    client.call("slot.add", payload, name="other", replace=True).expect()


def rekey(client: WireClient) -> None:
    """Make a new root key for the same keyslots."""
    client.call("store.rekey").expect()


def leave(client: WireClient) -> None:
    """The control: nothing is revoked."""


def rewrapped(client: WireClient) -> bool:
    """Whether no data key waits for its rewrapping."""
    return "to_rewrap" not in client.call("agent.status").expect().result


def copied(agent: AgentProcess) -> Path:
    """A copy of the store as it is on the disk now, as a thief takes it: while the agent runs."""
    copy = agent.home / f"copy{len(list(agent.home.glob('copy*')))}"
    shutil.copytree(agent.state, copy)
    return copy


REVOCATIONS = [remove_other, change_other, rekey]


@pytest.mark.parametrize("revoke", [*REVOCATIONS, leave])
def test_old_copy_opens_nothing_newer(agent: AgentProcess, revoke: Callable[[WireClient], None]) -> None:
    """Neither what is written after the revocation, nor, once all is rewrapped, what was there before.

    Where nothing is revoked, the same attacker opens all of it.
    """
    agent.start_new()
    with agent.connect() as client:
        client.call("secret.put", b"before", path="before").expect()
        add_other(client)
        old = copied(agent)
        revoke(client)
        client.call("secret.put", b"after", path="after").expect()
        poll(lambda: rewrapped(client))
        today = copied(agent)
    keys, _ = keys_of(old, {"other": OTHER}, {}, cheap=True)
    for path, value in (("before", b"before"), ("after", b"after")):
        if revoke is leave:
            assert opened_with(keys, today, path) == value
        else:
            with pytest.raises(InvalidTag):
                opened_with(keys, today, path)
    # The owner opens all of it, with a key that is another one.
    values = {"before": b"before", "after": b"after"}
    own, _ = keys_of(today, {"passphrase": PASSPHRASE}, values, cheap=True)
    assert (own["root key"] == keys["root key"]) is (revoke is leave)


@pytest.mark.parametrize("revoke", REVOCATIONS)
def test_other_keyslots_stay_valid(agent: AgentProcess, revoke: Callable[[WireClient], None]) -> None:
    """Nobody types the passphrase of a keyslot that is not touched."""
    agent.start_new()
    with agent.connect() as client:
        client.call("secret.put", b"value", path="a").expect()
        add_other(client)
        payload = two_passphrases(PASSPHRASE, b"a third one")
        client.call("slot.add", payload, name="third").expect()
        revoke(client)
        for passphrase in (PASSPHRASE, b"a third one"):
            client.call("agent.lock").expect()
            client.call("agent.unlock", passphrase).expect()
            assert client.call("secret.get", path="a").expect().payload == b"value"
        client.call("agent.lock").expect()
        expected = "" if revoke is rekey else "unlock_failed"
        assert client.call("agent.unlock", OTHER).code == expected


@pytest.mark.parametrize("revoke", REVOCATIONS)
@pytest.mark.parametrize(
    "tables, named",
    [
        ("keyslot", "keyslot table fails authentication"),
        ("keyslot slot_table_mac", "of another time was put in"),
        ("keyslot slot_table_mac master_key", "not what the agent left"),
    ],
)
def test_old_table_in_the_new_store_opens_nothing(
    agent: AgentProcess, revoke: Callable[[WireClient], None], tables: str, named: str
) -> None:
    """However much of the old copy is put beside it, and it is said what is wrong."""
    agent.start_new()
    with agent.connect() as client:
        client.call("secret.put", b"before", path="before").expect()
        add_other(client)
        old = copied(agent)
        revoke(client)
        client.call("secret.put", b"after", path="after").expect()
        poll(lambda: rewrapped(client))
    agent.stop()
    restore(agent.store, old / "store.db", tables.split())
    agent.start()
    with agent.connect() as client:
        refused = client.call("agent.unlock", OTHER)
        assert refused.code == "integrity"
        assert client.call("secret.get", path="after").code == "locked"
        if "master_key" not in tables:
            assert named in refused.message
            assert client.call("agent.unlock", PASSPHRASE).code == "integrity"


def test_a_lock_while_it_is_rewrapped_loses_nothing(agent: AgentProcess) -> None:
    """The next unlock goes on with what is left."""
    agent.start_new()
    paths = [f"a/{number}" for number in range(300)]
    with agent.connect() as client:
        for path in paths:
            client.call("secret.put", path.encode(), path=path).expect()
        rekey(client)
        client.call("agent.lock").expect()
        client.call("agent.unlock", PASSPHRASE).expect()
        for path in paths:
            assert client.call("secret.get", path=path).expect().payload == path.encode()
        poll(lambda: rewrapped(client))
        for path in paths:
            assert client.call("secret.get", path=path).expect().payload == path.encode()
    agent.stop()
    with closing(sqlite3.connect(agent.store)) as database:
        states = database.execute(
            "SELECT version, state, retiring FROM master_key ORDER BY version"
        ).fetchall()
        assert states == [(1, "destroyed", 0), (2, "active", 0)]
        assert database.execute("SELECT count(DISTINCT master_key) FROM data_key").fetchone() == (1,)


def test_it_is_rewrapped_while_others_write_and_fetch(agent: AgentProcess) -> None:
    """Writes and fetches beside it come out right, and the state adds up at the next unlock."""
    agent.start_new()
    values = {f"a/{number}": b"0" for number in range(40)}
    with agent.connect() as client, agent.connect() as other:
        for path, value in values.items():
            client.call("secret.put", value, path=path).expect()
        for round_ in range(4):
            pending = other.request("store.rekey", {})
            for number, path in enumerate(values):
                values[path] = b"%d %d" % (round_, number)
                client.call("secret.put", values[path], path=path).expect()
                assert client.call("secret.get", path=path).expect().payload == values[path]
            other.reply_to(pending).expect()
        client.call("agent.lock").expect()
        client.call("agent.unlock", PASSPHRASE).expect()
        for path, value in values.items():
            assert client.call("secret.get", path=path).expect().payload == value


def restore(store: Path, old: Path, tables: list[str]) -> None:
    """Put rows of an old copy in the place of those of today."""
    with closing(sqlite3.connect(store, isolation_level=None)) as database:
        database.execute("ATTACH ? AS old", [str(old)])
        database.execute("PRAGMA foreign_keys=OFF")
        for table in tables:
            if table == "slot_table_mac":
                database.execute(
                    "UPDATE store_meta SET slot_table_mac = (SELECT slot_table_mac FROM old.store_meta)"
                )
            else:
                database.execute(f"DELETE FROM {table}")
                database.execute(f"INSERT INTO {table} SELECT * FROM old.{table}")
