"""A store that somebody else wrote to: damage is named, and never becomes a value.

The file is changed while the agent is stopped, by a program that knows SQLite but no key. What an unlock
finds (``test_set_back``) is looked at here as if somebody had been able to seal the state of the store anew.
"""

from __future__ import annotations

import shutil
import sqlite3
import struct
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

import pytest

from keyholt_agent.keys import kdf
from keyholt_agent.keys.custody import SoftwareCustody
from keyholt_agent.keys.kdf import Argon2Parameters
from keyholt_agent.keys.keyslots import Keyslot, table_mac, wrap_root
from keyholt_agent.keys.randomness import KERNEL
from keyholt_agent.keys.root import RootKeys
from keyholt_agent.keys.root_secret import RootSecret
from keyholt_agent.memory import Arena
from keyholt_agent.memory.backing import open_backing
from tests.support.agent_process import PASSPHRASE, AgentProcess
from tests.support.derivations import cheapened
from tests.support.foreign_slot import foreign_slot
from tests.support.prepared import Preparation, PreparedAgent
from tests.support.store_keys import keys_of, reseal
from tests.support.tampering import edit, look
from tests.support.unharmed import KEPT, KEPT_PATH, check_serves, keep_one
from tests.support.wire import WireError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

VICTIM: Final = "prod/db/password"
SECRET: Final = b"the one and only value"
INTRUDER: Final = b"the intruder's own passphrase"
BYTES: Final = 260
"""Secrets of which one byte each is changed: more than a record has."""

OF: Final = "(SELECT v.id FROM secret_version v JOIN secret s ON s.id = v.secret_id WHERE path = 'byte/{}')"
CHANGES: Final = (
    "UPDATE secret SET path = 'byte/x' WHERE path = 'byte/{}'",
    "UPDATE secret SET latest = 2 WHERE path = 'byte/{}'",
    f"UPDATE secret_version SET version = 2 WHERE id = {OF}",
    f"UPDATE secret_version SET value = NULL WHERE id = {OF}",
    f"UPDATE secret_version SET value = x'' WHERE id = {OF}",
    f"UPDATE secret_version SET metadata = x'' WHERE id = {OF}",
    f"UPDATE data_key SET wrapped_key = x'00' WHERE id = {OF}",
    "UPDATE secret SET deleted_at = 1 WHERE path = 'byte/{}'",
)
"""What is done to ``byte/0``, ``byte/1`` and so on."""

UPDATES: Final = (
    "UPDATE secret_version SET metadata = ? WHERE id = ?",
    "UPDATE data_key SET wrapped_key = ? WHERE id = ?",
    "UPDATE secret_version SET value = ? WHERE id = ?",
)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, preparation: Preparation) -> Path:
    """The state directory of an agent with two secrets of one size, and one that nobody touches."""
    with PreparedAgent(tmp_path_factory.mktemp("template"), preparation=preparation) as agent:
        agent.start_new()
        keep_one(agent)
        with agent.connect() as client:
            client.put(VICTIM, SECRET, labels={"owner": "me"})
            client.put("other", SECRET[::-1], labels={"owner": "me"})
            for number in range(BYTES):
                client.put(f"byte/{number}", SECRET, labels={"owner": "me"})
    return agent.state


@pytest.fixture(scope="module")
def keys(template: Path) -> Mapping[str, bytes]:
    """Those of the template."""
    return keys_of(template, {"passphrase": PASSPHRASE}, {}, cheap=True)[0]


@pytest.fixture
def stored(agent: AgentProcess, template: Path) -> AgentProcess:
    """A stopped agent with the secrets of the template."""
    shutil.copytree(template, agent.state)
    return agent


def test_every_byte_of_a_record(stored: AgentProcess, keys: Mapping[str, bytes]) -> None:
    """One byte of metadata, wrapped key or value changed, each in a record of its own: none gives a value."""
    rows = look(
        stored,
        "SELECT s.path, v.id, v.metadata, k.wrapped_key, v.value "
        "FROM secret_version v JOIN data_key k USING (id) "
        "JOIN secret s ON s.id = v.secret_id WHERE s.path LIKE 'byte/%' ORDER BY v.id",
    )
    sizes = [len(part) for part in rows[0][2:]]
    places = [(column, offset) for column, size in enumerate(sizes) for offset in range(size)]
    assert len(places) < len(rows), "give the template more secrets"
    changes: list[tuple[str, tuple[Any, ...]]] = []
    for (column, offset), (path, row, *parts) in zip(places, rows, strict=False):
        assert len(parts[column]) == sizes[column], path
        damaged = bytearray(parts[column])
        damaged[offset] ^= 1 << offset % 8
        changes.append((UPDATES[column], (bytes(damaged), row)))
    edit(stored, *changes)
    reseal(stored.state, keys)
    stored.start_unlocked()
    with stored.connect() as client:
        for _, (path, *_) in zip(places, rows, strict=False):
            assert client.call("secret.get", path=path).code == "integrity", path
        for path, *_ in rows[len(places) :]:
            assert client.get(path) == SECRET
        check_serves(stored)
        assert client.status()["connections"] == 1


def test_every_field_of_a_row(stored: AgentProcess, keys: Mapping[str, bytes]) -> None:
    """Path, latest, version, tombstone, parts left out or emptied: changed, they give no wrong value."""
    edit(stored, *((statement.format(number), ()) for number, statement in enumerate(CHANGES)))
    reseal(stored.state, keys)
    stored.start_unlocked()
    with stored.connect() as client:
        assert client.call("secret.get", path="byte/0").code == "not_found"
        assert client.call("secret.get", path="byte/x").code == "integrity"
        for number in range(1, len(CHANGES)):
            for version in ({}, {"version": 1}, {"version": 2}):
                code = client.call("secret.get", path=f"byte/{number}", **version).code
                assert code in {"integrity", "not_found"} or (number, version) == (1, {"version": 1})
        assert client.call("secret.list", prefix="byte/").code == ""
        assert client.call("secret.history", path="byte/5").code == ""
        check_serves(stored)


def test_two_records_swapped(stored: AgentProcess, keys: Mapping[str, bytes]) -> None:
    """Whole records, or parts of them, moved to another path open nowhere."""
    rows = look(
        stored,
        "SELECT v.id, v.metadata, v.value, k.wrapped_key FROM secret_version v JOIN data_key k USING (id) "
        "JOIN secret s ON s.id = v.secret_id WHERE s.path IN ('prod/db/password', 'other') ORDER BY s.path",
    )
    (one, one_meta, one_value, one_key), (two, two_meta, two_value, two_key) = rows
    edit(
        stored,
        *(
            ("UPDATE secret_version SET metadata = ?, value = ? WHERE id = ?", change)
            for change in ((two_meta, two_value, one), (one_meta, one_value, two))
        ),
        *(("UPDATE data_key SET wrapped_key = ? WHERE id = ?", c) for c in ((two_key, one), (one_key, two))),
    )
    reseal(stored.state, keys)
    stored.start_unlocked()
    with stored.connect() as client:
        assert client.call("secret.get", path=VICTIM).code == "integrity"
        assert client.call("secret.get", path="other").code == "integrity"
        check_serves(stored)


def test_old_version_in_the_place_of_the_new(stored: AgentProcess, keys: Mapping[str, bytes]) -> None:
    """A version's record put in the place of another version of the same path opens not."""
    stored.start_unlocked()
    with stored.connect() as client:
        client.put(VICTIM, b"the new value!")
    stored.stop()
    (secret_id,) = look(stored, f"SELECT id FROM secret WHERE path = '{VICTIM}'")[0]
    edit(
        stored,
        ("UPDATE secret_version SET version = 99 WHERE secret_id = ? AND version = 1", (secret_id,)),
        ("UPDATE secret_version SET version = 1 WHERE secret_id = ? AND version = 2", (secret_id,)),
        ("UPDATE secret_version SET version = 2 WHERE secret_id = ? AND version = 99", (secret_id,)),
    )
    reseal(stored.state, keys)
    stored.start_unlocked()
    with stored.connect() as client:
        for version in (1, 2):
            assert client.call("secret.get", path=VICTIM, version=version).code == "integrity"
        check_serves(stored)


def _parameters(encoded: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """A keyslot's header with other parameters of the key derivation."""
    slot = Keyslot.decode(encoded)
    return encoded[: -len(slot.parameters)] + change(slot.parameters)


@pytest.mark.parametrize(
    "time, memory, parallelism",
    [(3, 2**32 - 1, 4), (2**32 - 1, 65536, 4), (3, 65536, 2**32 - 1)],
)
def test_derivation_out_of_bounds(stored: AgentProcess, time: int, memory: int, parallelism: int) -> None:
    """Parameters from the store are refused by their size before any memory is taken for them."""
    ((header,),) = look(stored, "SELECT header FROM keyslot")
    edit(
        stored,
        (
            "UPDATE keyslot SET header = ?",
            (_parameters(header, lambda p: p[:1] + struct.pack(">III", time, memory, parallelism) + p[13:]),),
        ),
    )
    stored.start()
    with stored.connect() as client:
        peak = stored.peak_resident()
        assert client.call("agent.unlock", PASSPHRASE).code == "integrity"
        assert client.call("slot.list").code == "integrity"
        assert stored.peak_resident() - peak < 4 * 1024 * 1024
        assert client.call("secret.get", path=KEPT_PATH).code == "locked"


def test_derivation_that_is_weaker_opens_nothing(stored: AgentProcess) -> None:
    """Parameters within bounds that the slot was not made with: they are part of what is authenticated."""
    ((header,),) = look(stored, "SELECT header FROM keyslot")
    costs = Argon2Parameters(time=4).encode(b"")[:13]
    edit(stored, ("UPDATE keyslot SET header = ?", (_parameters(header, lambda p: costs + p[13:]),)))
    stored.start()
    with stored.connect() as client:
        assert client.call("agent.unlock", PASSPHRASE).code == "unlock_failed"


@pytest.mark.parametrize("offset", [29, 40, 70, -1])
def test_wrapped_root_key_damaged(stored: AgentProcess, offset: int) -> None:
    """In the root key's version, the encapsulated key, the ciphertext or the tag: the right passphrase is
    answered with damage, a wrong one that it is wrong.
    """
    ((wrapped,),) = look(stored, "SELECT wrapped_root FROM keyslot")
    damaged = bytearray(wrapped)
    damaged[offset] ^= 1
    edit(stored, ("UPDATE keyslot SET wrapped_root = ?", (bytes(damaged),)))
    stored.start()
    with stored.connect() as client:
        assert client.call("agent.unlock", PASSPHRASE).code == "integrity"
        assert client.call("agent.unlock", INTRUDER).code == "unlock_failed"


def _foreign_slot(stored: AgentProcess) -> tuple[str, tuple[Any, ...]]:
    """A statement that inserts an intruder's keyslot: its passphrase is theirs, and so is the key in it."""
    ((store_id,),) = look(stored, "SELECT store_id FROM store_meta")
    with (
        closing(Arena(open_backing("auto", 4096))) as arena,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(kdf, "_argon2id", cheapened(kdf._argon2id))
        _, wrapped = foreign_slot(arena, "backup", INTRUDER, store_id)
    columns = "position, name, kind, created, header, wrapped_root"
    statement = f"INSERT INTO keyslot ({columns}) VALUES (9, 'backup', 'passphrase', 1, ?, ?)"
    return statement, (wrapped.header, wrapped.wrapped_root)


def test_foreign_slot_opens_nothing(stored: AgentProcess) -> None:
    """Neither the intruder nor the owner unlocks a store whose slot table was changed, and both are told."""
    edit(stored, _foreign_slot(stored))
    stored.start()
    with stored.connect() as client:
        for passphrase in (INTRUDER, PASSPHRASE):
            refused = client.call("agent.unlock", passphrase)
            assert refused.code == "integrity"
        assert client.status()["state"] == "locked"


def _forged_store(stored: AgentProcess) -> tuple[tuple[str, tuple[Any, ...]], ...]:
    """Statements that put root and master key of a writer's own beneath the owner's keyslot, which names a
    public key that everybody can wrap to; the slot table gets its MAC. No passphrase is needed for any of it.
    """
    ((store_id,),) = look(stored, "SELECT store_id FROM store_meta")
    ((header,),) = look(stored, "SELECT header FROM keyslot")
    ((name, key_id),) = look(stored, "SELECT name, key_id FROM master_key")
    with closing(Arena(open_backing("auto", 64 * 1024))) as arena:
        theirs = RootSecret.create(arena, KERNEL)
        keys = RootKeys.derive_from(arena, theirs, store_id, KERNEL)
        forged = wrap_root(arena, Keyslot.decode(header), theirs, store_id, KERNEL)
        mac = table_mac(keys.slot_mac, store_id, [forged])
        master = SoftwareCustody(arena, keys.wrapping, store_id, KERNEL).create(name, key_id, 1)
        keys.release()
    return (
        ("UPDATE keyslot SET wrapped_root = ?", (forged.wrapped_root,)),
        ("UPDATE store_meta SET slot_table_mac = ?", (mac,)),
        ("UPDATE master_key SET wrapped = ?", (master.wrapped,)),
    )


def test_store_beneath_the_keyslot_of_somebody_else(stored: AgentProcess) -> None:
    """The owner's right passphrase does not open it: what would be written then, the writer could read."""
    edit(stored, *_forged_store(stored))
    stored.start()
    with stored.connect() as client:
        refused = client.call("agent.unlock", PASSPHRASE)
        assert refused.code == "integrity"
        assert "root key of another store" in refused.message
        assert client.status()["state"] == "locked"


def test_nobody_else_writes_to_the_store_of_a_running_agent(stored: AgentProcess) -> None:
    """SQLite's lock is held for as long as the agent runs."""
    stored.start()
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        edit(stored, ("UPDATE keyslot SET name = 'x'", ()))


def test_master_key_damaged(stored: AgentProcess) -> None:
    """A master key that does not open is damage, and the agent stays locked."""
    ((wrapped,),) = look(stored, "SELECT wrapped FROM master_key")
    edit(stored, ("UPDATE master_key SET wrapped = ?", (wrapped[:-1] + bytes([wrapped[-1] ^ 1]),)))
    stored.start()
    with stored.connect() as client:
        assert client.call("agent.unlock", PASSPHRASE).code == "integrity"
        assert client.status()["state"] == "locked"


@pytest.mark.parametrize("how", ["deleted", "replaced", "directory"])
def test_store_deleted_under_the_running_agent(stored: AgentProcess, how: str) -> None:
    """Nothing is acknowledged that would be gone; what is cached may still be read, and status says why."""
    stored.start_unlocked()
    with stored.connect() as client:
        assert client.get(VICTIM) == SECRET
        if how == "directory":
            stored.state.rename(stored.home / "moved")
        else:
            stored.store.unlink()
        if how == "replaced":
            stored.store.write_bytes(b"another file")
        for number in range(3):
            refused = client.call("secret.put", b"lost?", path=f"lost/{number}")
            assert refused.code == "store_unavailable"
            assert "removed or replaced under the running agent" in refused.message
        assert "removed or replaced" in client.status()["problem"]
        try:
            assert client.get(VICTIM) == SECRET
        except WireError as error:
            assert error.code == "store_unavailable"  # noqa: PT017
    with stored.connect() as client:
        assert client.status()["pid"] == stored.pid
    if how == "directory":
        (stored.home / "moved").rename(stored.state)
    stored.kill()
    if how == "directory":
        stored.start_unlocked()
        assert check_serves(stored)["state"] == "unlocked"
        with stored.connect() as client:
            assert client.get(KEPT_PATH) == KEPT


def test_forged_types(stored: AgentProcess) -> None:
    """Anything that SQLite can hold, in every column of secrets of their own: the unlock is refused by name.

    What an agent meets that has unlocked before is in ``tests/agent/store/sqlite/test_columns.py``.
    """
    columns = {
        "secret": ("latest", "deleted_at"),
        "secret_version": ("version", "created", "metadata", "value"),
        "data_key": ("wrapped_key", "master_key"),
    }
    forms = (
        "-1", "9223372036854775807", "1.5", "'text'", "''", "CAST(x'ff00fe' AS TEXT)", "x''",
        "x'00ff'", "zeroblob(300000)", "CAST(zeroblob(300000) AS TEXT)", "zeroblob(20000000)",
    )  # fmt: skip
    places = [(table, column) for table, names in columns.items() for column in names]
    forged = [(*place, form) for place in places for form in forms]
    assert len(forged) < BYTES
    texts = look(stored, "SELECT name, sql FROM sqlite_schema WHERE type = 'table'")
    loosened: list[tuple[str, str]] = []
    for name, text in texts:
        loose = text.replace(" NOT NULL", "")
        for _, column in places:
            loose = loose.replace(f" {column} INTEGER", f" {column} BLOB")
        loosened.append((loose, name))
    statement = "UPDATE sqlite_schema SET sql = ? WHERE name = ?"
    edit(stored, ("PRAGMA writable_schema = ON", ()), *((statement, pair) for pair in loosened))
    for number, (table, column, form) in enumerate(forged):
        which = f"path = 'byte/{number}'" if table == "secret" else f"id = {OF.format(number)}"
        edit(stored, (f"UPDATE {table} SET {column} = {form} WHERE {which}", ()))
    edit(stored, ("PRAGMA writable_schema = ON", ()), *((statement, (text, name)) for name, text in texts))
    stored.start()
    with stored.connect() as client:
        assert client.call("agent.unlock", PASSPHRASE).code == "integrity"
        assert client.status()["state"] == "locked"
