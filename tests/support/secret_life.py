"""A life that an agent leads with secrets, and everything that must not be found of it afterwards."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tests.support.agent_process import poll
from tests.support.store_keys import keys_of
from tests.support.wire import frame, request_frame, two_passphrases

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.agent_process import AgentProcess
    from tests.support.wire import WireClient

__all__ = ["SecretLife"]

PIPELINED: Final = 50
"""Requests of one connection at once."""

MEBIBYTE: Final = 1024


def text() -> bytes:
    """Text that is nowhere else, neither of its ends either, and that looks different in JSON."""
    return f'{os.urandom(12).hex()}" \\ é\n{os.urandom(12).hex()}'.encode()


def binary(size: int) -> bytes:
    """Bytes that are nowhere else."""
    return os.urandom(size)


@dataclass
class SecretLife:
    """An agent, the passphrases that it was given, right and wrong, and the values: short and long ones.

    Attributes:
        marker: the path of one of the values; no secret, and so what a search has to find.
        values: what there is from the beginning, by path.
        long: what comes with use, a mebibyte that repeats one of these.
    """

    agent: AgentProcess
    passphrase: bytes = field(default_factory=text)
    second: bytes = field(default_factory=text)
    wrong: bytes = field(default_factory=text)
    marker: str = field(default_factory=lambda: f"marker/{os.urandom(16).hex()}")
    values: dict[str, bytes] = field(default_factory=dict[str, bytes])
    long: dict[str, bytes] = field(default_factory=dict[str, bytes])

    def __post_init__(self) -> None:
        self.values = {
            self.marker: text(),
            "one block": binary(16),
            "binary": binary(48),
            "kilo": binary(1024),
        }

    @property
    def given(self) -> dict[str, bytes]:
        """What came over the wire as a secret."""
        return {
            **self.values, "passphrase": self.passphrase, "second passphrase": self.second,
            "wrong passphrase": self.wrong,
        }  # fmt: skip

    def keys(self) -> tuple[dict[str, bytes], dict[str, bytes]]:
        """The keys of the store as it is now, and the traces of them."""
        passphrases = {"passphrase": self.passphrase, "two": self.second}
        return keys_of(self.agent.state, passphrases, {**self.values, **self.long})

    def begin(self) -> None:
        """Create the store, and lay one value of each length down in it."""
        with self.agent.connect() as client:
            client.call("store.init", self.passphrase).expect()
            for path, value in self.values.items():
                client.put(path, value)

    def unlock(self) -> None:
        """Start from the store."""
        with self.agent.connect() as client:
            client.call("agent.unlock", self.passphrase).expect()

    def fetch(self) -> None:
        """One operation, of a peer that leaves."""
        with self.agent.connect() as client:
            assert client.get("binary") == self.values["binary"]

    def use(self, operations: int) -> None:
        """So many fetches and writes, then long values, and what is refused or broken off."""
        with ExitStack() as stack:
            clients = [stack.enter_context(self.agent.connect()) for _ in range(5)]
            self._use(clients, operations // PIPELINED)
            self._misuse(clients[0])

    def add_slot(self) -> None:
        """Wrap the root key for one more passphrase."""
        with self.agent.connect() as client:
            client.call("slot.add", two_passphrases(self.passphrase, self.second), name="two").expect()

    def change_slots(self) -> None:
        """All that is done with passphrases, right and wrong ones."""
        with self.agent.connect() as client:
            client.call("agent.lock").expect()
            assert client.call("secret.put", self.values["binary"], path="locked").code == "locked"
            assert client.call("agent.unlock", self.wrong).code == "unlock_failed"
            client.call("agent.unlock", self.passphrase).expect()
            client.call("slot.add", two_passphrases(self.passphrase, self.second), name="two").expect()
            assert client.call("slot.remove", self.wrong, name="two").code == "unlock_failed"
            client.call("slot.add", two_passphrases(self.passphrase, self.wrong), name="three").expect()
            client.call("slot.remove", self.second, name="three").expect()
            assert client.get(self.marker) == self.values[self.marker]

    def rekey(self) -> None:
        """Make the first new root key, and have all data keys rewrapped."""
        with self.agent.connect() as client:
            client.call("store.rekey").expect()
        done = "version 1 of master key 'default' wraps nothing, and is destroyed"
        poll(lambda: done in self.agent.log)

    def lock(self) -> None:
        with self.agent.connect() as client:
            client.call("agent.lock").expect()

    def _use(self, clients: Sequence[WireClient], turns: int) -> None:
        values = list(self.values.items())
        for turn in range(turns):
            client, (path, value) = clients[turn % len(clients)], values[turn % len(values)]
            if turn % 8 == 0:
                ids = [
                    client.request("secret.put", {"path": f"{path}/{turn}/{n}"}, value)
                    for n in range(PIPELINED)
                ]
                for one in ids:
                    client.reply_to(one).expect()
            else:
                ids = [client.request("secret.get", {"path": path}) for _ in range(PIPELINED)]
                assert all(client.reply_to(one).expect().payload == value for one in ids)
        self.long = {"long": self.values["kilo"] * MEBIBYTE}
        for number in range(3):
            clients[number].put("long", self.long["long"])
            assert clients[-1].get("long") == self.long["long"]
        self._relocate(clients[0])

    def _relocate(self, client: WireClient) -> None:
        """Move, copy and purge whole histories, a long one among them; then all is where it was."""
        for path in ("long", "kilo", self.marker):
            client.call("secret.move", path=path, to="moved").expect()
            client.call("secret.copy", path="moved", to="copied").expect()
            client.call("secret.purge", path="copied").expect()
            client.call("secret.move", path="moved", to=path).expect()
            assert client.get(path) == {**self.values, **self.long}[path]

    def _misuse(self, client: WireClient) -> None:
        value = self.values[self.marker]
        put = request_frame(900, "secret.put", {"path": "pieces"}, value)
        for data in (frame(b"\xc1", value), put[: -len(value) // 2], put[:-1]):
            with self.agent.connect() as other:
                other.send(data)
        with self.agent.connect() as other:
            for start in range(0, len(put), 7):
                other.send(put[start : start + 7])
            other.receive().expect()
        assert client.call("secret.put", value, path="odd", nothing=1).code == "invalid_request"
        assert client.call("secret.put", value, path=self.marker, if_version=9).code == "conflict"
        assert client.call("secret.get", value, path=self.marker).code == "invalid_request"
        assert client.call("nobody.knows", value).code == "unsupported"
