"""An agent inside the test: the real parts of one, wired as ``main`` does, without process and socket file.

Connections are socket pairs, and time may be the test's: with ``mock_clock`` a deadline of half a minute
takes no time at all.
"""

from __future__ import annotations

import os
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import trio

from keyholt_agent.clocks import wall_time
from keyholt_agent.handlers import bindings
from keyholt_agent.keys.kdf import FLOOR
from keyholt_agent.keys.keyslots import passphrase_slot
from keyholt_agent.keys.randomness import KERNEL
from keyholt_agent.keys.recipients import Identity
from keyholt_agent.pipeline import Pipeline
from keyholt_agent.principal import Principal
from keyholt_agent.transport.server import Server
from keyholt_agent.transport.stream import SocketByteStream
from keyholt_protocol.limits import MAX_REQUEST_HEADER
from keyholt_protocol.operations import OPERATIONS
from tests.support.wire import HELLO_ARGS, ClosedError, Reply, ReplyReader, request_frame

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from keyholt_agent.memory import LockedBuffer
    from keyholt_agent.pipeline import AnyBinding
    from keyholt_agent.services import Services
    from keyholt_agent.transport.turns import Observe

__all__ = ["PEER", "Inside", "Peer", "create_store", "of_uid", "serving", "with_handler"]

PEER: Final = Principal(quota=("uid", 4711), name=f"uid 4711, pid {os.getpid()}")


def of_uid(uid: int) -> Principal:
    """A peer with that uid."""
    return Principal(quota=("uid", uid), name=f"uid {uid}, pid 1")


@dataclass
class Peer:
    """The far end of a session in this process."""

    stream: trio.SocketStream
    reader: ReplyReader = field(default_factory=ReplyReader)
    last_id: int = 0

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def request(self, op: str, payload: bytes = b"", /, **args: object) -> int:
        self.last_id += 1
        self.reader.operations[self.last_id] = op
        await self.send(request_frame(self.last_id, op, args, payload))
        return self.last_id

    async def receive(self) -> Reply:
        while (reply := self.reader.next_reply()) is None:
            try:
                data = await self.stream.receive_some()
            except trio.BrokenResourceError:
                data = b""
            if not data:
                raise ClosedError
            self.reader.feed(data)
        return reply

    async def call(self, op: str, payload: bytes = b"", /, **args: object) -> Reply:
        """Ask and wait, with nothing else in flight."""
        number = await self.request(op, payload, **args)
        reply = await self.receive()
        assert reply.id == number
        return reply

    async def farewell(self) -> list[Reply]:
        replies: list[Reply] = []
        while True:
            try:
                replies.append(await self.receive())
            except ClosedError:
                return replies


@dataclass
class Inside:
    """The parts of an agent, and how to connect to it."""

    services: Services
    buffer_used: int
    _nursery: trio.Nursery
    _buffer: LockedBuffer
    _server: Server
    _peers: list[Peer] = field(default_factory=list["Peer"])

    @property
    def buffer(self) -> bytes:
        """What lies in the buffer that all sessions receive into."""
        return bytes(self._buffer.view)

    @property
    def held(self) -> int:
        """Bytes of locked memory that connections hold."""
        return self.services.arena.usage.used - self.buffer_used

    async def connect(self, *, greet: bool = True, principal: Principal = PEER) -> Peer:
        """Open a connection, served as the server would."""
        ours, theirs = socket.socketpair()
        for job in self._server.receive(SocketByteStream(theirs), principal):
            self._nursery.start_soon(job)
        client = Peer(trio.SocketStream(trio.socket.from_stdlib_socket(ours)))
        self._peers.append(client)
        if greet:
            (await client.call("session.hello", **HELLO_ARGS)).expect()
        return client

    def use(self, others: list[AnyBinding] | None = None, observe: Observe | None = None) -> None:
        """Have other handlers, or an observer, for the connections that are opened from now on."""
        self._server = _server(self.services, others or bindings(self.services), self._buffer, observe)
        self._nursery.start_soon(self._server.serve, ())

    def close(self) -> None:
        for peer in self._peers:
            peer.stream.socket.close()


async def create_store(services: Services) -> None:
    """Create the store, with a key that no derivation was needed for, and leave the agent unlocked."""
    draft = passphrase_slot("passphrase", wall_time(), FLOOR, KERNEL)
    with services.arena.allocate(32) as secret:
        KERNEL.fill(secret)
        with Identity(services.arena, secret) as identity:
            await services.unlocking.create_with(draft, identity)


def with_handler(services: Services, operation: str, handler: Callable[..., Any]) -> list[AnyBinding]:
    """Every binding, that of one operation with another handler."""
    return [
        replace(one, handler=handler) if one.operation.name == operation else one
        for one in bindings(services)
    ]


@asynccontextmanager
async def serving(services: Services, nursery: trio.Nursery) -> AsyncIterator[Inside]:
    """Serve connections in ``nursery`` until the block ends."""
    with services.arena.allocate(MAX_REQUEST_HEADER, lasting=True) as buffer:
        server = _server(services, bindings(services), buffer)
        nursery.start_soon(server.serve, ())
        inside = Inside(services, services.arena.usage.used, nursery, buffer, server)
        try:
            yield inside
        finally:
            nursery.cancel_scope.cancel()
            inside.close()


def _server(
    services: Services,
    bindings: Iterable[AnyBinding],
    buffer: LockedBuffer,
    observe: Observe | None = None,
) -> Server:
    pipeline = Pipeline(OPERATIONS, bindings, gate=services.vault.require, arena=services.arena)
    server = Server(pipeline, buffer, services.connections, observe)
    services.vault.when_locked(server.forget_secrets)
    return server
