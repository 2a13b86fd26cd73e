"""What an agent leaves of passphrases, keys and values, in memory, cores and files, seen from outside.

It lives a life with them: ten thousand fetches and writes over several connections, pipelined, in pieces,
refused and broken off; locked, unlocked, with wrong passphrases, with keyslots coming and going. Then it is
searched for all of them, unlocked and locked.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import sqlite3
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from keyholt_agent.keys import kdf
from keyholt_agent.keys.envelope import bind
from keyholt_agent.keys.keyslots import Keyslot, SealedKeyslot, open_slot
from keyholt_agent.keys.randomness import KERNEL
from keyholt_agent.keys.root import RootKeys
from keyholt_agent.keys.wrapping_key import SoftwareKey
from keyholt_agent.memory import Arena
from keyholt_agent.memory.backing import open_backing
from keyholt_protocol.limits import MAX_REQUEST_HEADER
from tests.support.agent_process import AgentProcess
from tests.support.memory_scan import dump_core, scan_file, scan_process, scannable
from tests.support.wire import frame, request_frame

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.support.wire import WireClient

OPERATIONS: Final = 10_000
PIPELINED: Final = 50


def secret() -> bytes:
    """Text that is nowhere else, neither of its ends either, and that looks different in JSON."""
    return f'{os.urandom(12).hex()}" \\ é\n{os.urandom(12).hex()}'.encode()


@dataclass
class Life:
    """An agent, and everything that must not be found of it."""

    agent: AgentProcess
    backend: str
    value: bytes = field(default_factory=secret)
    binary: bytes = field(default_factory=lambda: os.urandom(48))
    passphrase: bytes = field(default_factory=secret)
    second: bytes = field(default_factory=secret)
    wrong: bytes = field(default_factory=secret)
    marker: str = field(default_factory=lambda: f"marker/{os.urandom(16).hex()}")
    keys: dict[str, bytes] = field(default_factory=dict[str, bytes])

    @property
    def given(self) -> dict[str, bytes]:
        """What came over the wire as a secret."""
        return {
            "value": self.value, "binary value": self.binary, "passphrase": self.passphrase,
            "second passphrase": self.second, "wrong passphrase": self.wrong,
        }  # fmt: skip

    def live(self) -> None:
        """All that an agent goes through."""
        with ExitStack() as stack:
            clients = [stack.enter_context(self.agent.connect()) for _ in range(5)]
            clients[0].call("store.init", self.passphrase).expect()
            self._use(clients)
            self._misuse(clients[0])
            self._lock_and_unlock(clients[0])

    def _use(self, clients: Sequence[WireClient]) -> None:
        for turn in range(OPERATIONS // PIPELINED):
            client = clients[turn % len(clients)]
            path, value = (self.marker, self.value) if turn % 2 else ("binary", self.binary)
            if turn < 10:
                client.put(path, value)
            elif turn % 4 < 2:
                ids = [
                    client.request("secret.put", {"path": f"{path}/{turn}/{n}"}, value)
                    for n in range(PIPELINED)
                ]
                for one in ids:
                    client.reply_to(one).expect()
            else:
                ids = [client.request("secret.get", {"path": path}) for _ in range(PIPELINED)]
                assert all(client.reply_to(one).expect().payload == value for one in ids)
        big = (self.value + self.binary) * (1024 * 1024 // len(self.value + self.binary))
        for number in range(3):
            clients[number].put("big", big)
            assert clients[-1].get("big") == big

    def _misuse(self, client: WireClient) -> None:
        put = request_frame(900, "secret.put", {"path": "pieces"}, self.value)
        for data in (frame(b"\xc1", self.value), put[: -len(self.value) // 2], put[:-1]):
            with self.agent.connect() as other:
                other.send(data)
        with self.agent.connect() as other:
            for start in range(0, len(put), 7):
                other.send(put[start : start + 7])
            other.receive().expect()
        assert client.call("secret.put", self.value, path="odd", nothing=1).code == "invalid_request"
        assert client.call("secret.put", self.value, path=self.marker, if_version=9).code == "conflict"
        assert client.call("secret.get", self.value, path=self.marker).code == "invalid_request"
        assert client.call("nobody.knows", self.value).code == "unsupported"

    def _lock_and_unlock(self, client: WireClient) -> None:
        client.call("agent.lock").expect()
        assert client.call("secret.put", self.value, path="locked").code == "locked"
        assert client.call("agent.unlock", self.wrong).code == "unlock_failed"
        client.call("agent.unlock", self.passphrase).expect()
        client.call(
            "slot.add", self.passphrase + self.second, name="two", existing_size=len(self.passphrase)
        ).expect()
        assert client.call("slot.remove", self.wrong, name="two").code == "unlock_failed"
        client.call(
            "slot.add", self.passphrase + self.wrong, name="three", existing_size=len(self.passphrase)
        ).expect()
        client.call("slot.remove", self.second, name="three").expect()
        assert client.get(self.marker) == self.value
        self.keys = keys_of(self.agent, self.passphrase)


def keys_of(agent: AgentProcess, passphrase: bytes) -> dict[str, bytes]:
    """The keys of a store, worked out from a copy of its files with the passphrase."""
    copy = agent.home / "copy"
    shutil.copytree(agent.state, copy)
    with closing(sqlite3.connect(copy / "store.db")) as database:
        ((store_id,),) = database.execute("SELECT store_id FROM store_meta")
        ((header, wrapped_root),) = database.execute(
            "SELECT header, wrapped_root FROM keyslot WHERE name = 'passphrase'"
        )
        ((name, key_id, wrapped),) = database.execute("SELECT name, key_id, wrapped FROM master_key")
    shutil.rmtree(copy)
    with closing(Arena(open_backing("auto", 64 * 1024))) as arena, arena.allocate(32) as master:
        slot, key = Keyslot.decode(header), arena.allocate(32)
        costs, salt = kdf.Argon2Parameters.decode(slot.parameters)
        kdf.derive(memoryview(passphrase), salt, costs, key.view)
        found = {"slot key": bytes(key.view)}
        sealed = SealedKeyslot(header=header, wrapped_root=wrapped_root)
        with SoftwareKey(key, slot.reference, KERNEL) as slot_key:
            keys = RootKeys.derive_from(arena, open_slot(arena, sealed, slot_key, store_id), KERNEL)
        try:
            keys.wrapping.unwrap(wrapped, 1, bind(store_id, name, key_id + b"software"), master.view)
            views = {"root key": keys.root, "slot MAC key": keys.slot_mac, "master key": master.view}
            views["wrap key"] = keys.wrapping._key.view
            return found | {name: bytes(view) for name, view in views.items()}
        finally:
            keys.release()


@pytest.mark.parametrize("backend", ["memfd_secret", "mlock"])
def test_nothing_is_left(agent: AgentProcess, backend: str) -> None:
    """Searched unlocked and locked: memory, core, files, arguments, environment; and the search was one."""
    agent.wrapper = scannable([])
    agent.config += f'[memory]\nbackend = "{backend}"\n[agent]\nlevel = "debug"\n'
    agent.start()
    life = Life(agent, backend)
    life.live()
    check_memory_of_an_unlocked_agent(life)
    check_core_of_an_unlocked_agent(life)
    check_files_arguments_environment(life)
    check_memory_of_a_locked_agent(life)


def locked_mappings(pid: int) -> list[range]:
    """The addresses of locked memory."""
    found: list[range] = []
    span = range(0)
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if match := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            span = range(int(match[1], 16), int(match[2], 16))
        elif line.startswith("VmFlags:") and " lo " in f"{line} ":
            found.append(span)
    return found


def places(agent: AgentProcess, needles: dict[str, bytes]) -> dict[str, list[str]]:
    """Where needles are in readable memory: for each that was found, the mappings, "locked" among them."""
    scan = scan_process(agent.pid, list(needles.values()))
    locked = locked_mappings(agent.pid)
    assert locked
    return {
        name: ["locked" if any(int(p.split()[0], 16) in span for span in locked) else p for p in found]
        for name, needle in needles.items()
        if (found := scan.places[needle])
    }


def check_memory_of_an_unlocked_agent(life: Life) -> None:
    """No copy of a value or passphrase anywhere; keys in locked memory and nowhere else.

    The path of a secret is no secret: the very same search finds it, in this very process.
    """
    with life.agent.connect() as client:
        assert client.status()["state"] == "unlocked"
        client.get(life.marker)
    marker = {"marker": life.marker.encode()}
    found = places(life.agent, {**life.given, **life.keys, **marker})
    assert found.pop("marker")
    assert not found.keys() & life.given.keys(), found
    assert "slot key" not in found, found  # needed for a moment only
    assert {place for where in found.values() for place in where} <= {"locked"}, found
    if life.backend == "mlock":  # which root can read, other than secret memory
        assert found.keys() == life.keys.keys() - {"slot key"}
    assert written(life.agent, marker)


def check_core_of_an_unlocked_agent(life: Life) -> None:
    """A core has none of them; but what is no secret, the path of one, is there to be found."""
    needles = {**life.given, **life.keys}
    core = dump_core(life.agent.pid, life.agent.home)
    scan = scan_file(core, [*needles.values(), life.marker.encode()])
    assert {name: scan.copies[needle] for name, needle in needles.items() if scan.copies[needle]} == {}
    assert scan.copies[life.marker.encode()] >= 1
    core.unlink()


def encodings(needle: bytes) -> Iterator[tuple[str, bytes]]:
    """A needle as it might have been written down."""
    yield "raw", needle
    yield "hex", needle.hex().encode()
    yield "upper hex", needle.hex().upper().encode()
    for shift in range(3):  # base64 of it within something longer, at any alignment
        aligned = needle[shift : shift + (len(needle) - shift) // 3 * 3]
        yield "base64", base64.b64encode(aligned)
        yield "base64url", base64.urlsafe_b64encode(aligned)
    text = needle.decode(errors="surrogateescape")
    yield "JSON", json.dumps(text)[1:-1].encode()
    yield "JSON, not ASCII", json.dumps(text, ensure_ascii=False)[1:-1].encode(errors="surrogateescape")
    yield "repr", repr(needle)[2:-1].encode()
    yield "repr of text", repr(text)[1:-1].encode(errors="surrogateescape")


def written(agent: AgentProcess, needles: dict[str, bytes]) -> list[str]:
    """Where needles are in files, arguments and environment."""
    process = Path(f"/proc/{agent.pid}")
    places = [p for p in agent.home.rglob("*") if p.is_file()] + [process / "cmdline", process / "environ"]
    return [
        f"{name} as {encoding} in {place}"
        for place in places
        for data in [place.read_bytes()]
        for name, needle in needles.items()
        for encoding, form in encodings(needle)
        if form in data
    ]


def check_files_arguments_environment(life: Life) -> None:
    """Log, database, its log, arguments and environment hold none of them in any form."""
    files = {file.name for file in life.agent.home.rglob("*") if file.is_file()}
    assert {"log", "store.db", "store.db-wal"} <= files
    assert written(life.agent, {**life.given, **life.keys}) == []


def check_memory_of_a_locked_agent(life: Life) -> None:
    """After locking none is left anywhere, locked memory included."""
    with life.agent.connect() as client:
        client.call("agent.lock").expect()
        # The buffer to receive into is all that is held; with mlock, what was used before can be searched.
        assert client.status()["memory_used"] == MAX_REQUEST_HEADER
    assert places(life.agent, {**life.given, **life.keys}) == {}
