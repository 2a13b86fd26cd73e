"""Frames that mean harm: real ones changed at random, with numbers that are drawn from a seed.

- Most are well framed and wrong within, so that they come as far as decoding and checking; the rest break the
  framing itself, which ends their connection.
- Few of them are valid requests; those that would lock the agent or change its keyslots are left out, so that
  the agent stays as it is.
"""

from __future__ import annotations

import random
import struct
from typing import TYPE_CHECKING, Any, Final

import msgpack

from tests.support.wire import HELLO_ARGS, ClosedError, frame, request_frame

if TYPE_CHECKING:
    from tests.support.agent_process import AgentProcess
    from tests.support.wire import WireClient

__all__ = ["HostileFrames", "attack"]

SAFE: Final[dict[str, dict[str, object]]] = {
    "agent.status": {},
    "slot.list": {},
    "secret.put": {"path": "hostile/a", "labels": {"k": "v"}, "if_version": 4711},
    "secret.get": {"path": "hostile/a", "version": 3},
    "secret.list": {"prefix": "hostile/", "limit": 5, "after": "hostile/0"},
    "secret.history": {"path": "hostile/a", "before": 9, "limit": 2},
    "secret.undelete": {"path": "hostile/none"},
    "secret.destroy": {"path": "hostile/none", "version": 1},
}
ODD: Final[list[Any]] = [
    None, True, False, 0, -1, 1, 2**31, 2**53, 2**63, 2**64 - 1, -(2**63), 1.5, float("nan"), "", "..",
    "a" * 2000,
    "\0", "\u202e", "\ufb03", b"", [], [[]] * 50, {}, {"a": {"b": {"c": []}}}, "hostile/a", "é" * 300,
    {str(n): n for n in range(40)}, ["x"] * 200,
]  # fmt: skip


class HostileFrames:
    """An endless supply of frames; the same seed gives the same ones."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._next_id = 1

    def odd(self, client: WireClient | None = None) -> bytes:
        """A frame whose framing holds and whose content is wrong, or harmless; ``client`` is told of it."""
        self._next_id += 1
        op = self._chance.choice(list(SAFE))
        args = dict(SAFE[op])
        for _ in range(self._chance.randrange(3)):
            args[self._chance.choice([*args, "path", "version", "odd", ""])] = self._chance.choice(ODD)
        if self._chance.random() < 0.1:
            op = self._chance.choice(["", "secret.steal", "x" * 2000, "\0", "secret.GET"])
        if client is not None:
            client.told(self._next_id, op)
        payload = self._chance.randbytes(self._chance.choice((0, 0, 0, 1, 100, 5000)))
        return request_frame(self._next_id, op, args, payload)

    def broken(self) -> bytes:
        """Bytes that break a rule of the wire, most of them."""
        data = bytearray(self.odd())
        match self._chance.randrange(7):
            case 0:
                return self._chance.randbytes(self._chance.randrange(1, 3000))
            case 1:
                struct.pack_into(
                    ">I",
                    data,
                    self._chance.choice((0, 4)),
                    self._chance.choice((0, 8193, 2**24 + 65537, 2**32 - 1)),
                )
            case 2:
                for _ in range(self._chance.randrange(1, 8)):
                    data[self._chance.randrange(8, len(data))] = self._chance.randrange(256)
            case 3:
                del data[self._chance.randrange(len(data)) :]
            case 4:
                return frame(msgpack.packb(self._chance.choice([*ODD, b"bytes", {"id": b"bytes"}])))
            case 5:
                value: Any = 1
                for _ in range(self._chance.choice((10, 500, 1500))):
                    value = [value] if self._chance.random() < 0.5 else {"a": value}
                return frame(_packed_deep(value))
            case _:
                return request_frame(
                    self._chance.choice(ODD), self._chance.choice(ODD), self._chance.choice(ODD)
                )
        return bytes(data)


def _packed_deep(value: Any) -> bytes:
    """Nested further than the packer goes, by hand."""
    parts: list[bytes] = []
    while isinstance(value, (list, dict)):
        parts.append(b"\x91" if isinstance(value, list) else b"\x81\xa1a")
        value = value[0] if isinstance(value, list) else value["a"]
    return b"".join(parts) + b"\x01"


def attack(agent: AgentProcess, frames: int, seed: int, *, batch: int = 60) -> int:
    """Send ``frames`` hostile frames over many connections, reading every answer; how many were answered."""
    hostile = HostileFrames(seed)
    answered = sent = 0
    while sent < frames:
        with agent.connect(greet=False) as client:
            client.send(request_frame(1, "session.hello", HELLO_ARGS))
            client.send(b"".join(hostile.odd(client) for _ in range(batch)))
            client.send(hostile.broken())
            client.socket.shutdown(1)
            answered += _read_all(client)
            sent += batch + 1
    return answered


def _read_all(client: WireClient) -> int:
    count = 0
    while True:
        try:
            client.receive()
        except ClosedError:
            return count
        count += 1
