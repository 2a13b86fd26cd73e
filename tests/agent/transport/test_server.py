"""What every connection shares: one peer's does not fill the log or the memory of the rest."""

from __future__ import annotations

import logging
import os
import socket
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from keyholt_agent.quotas import ConnectionQuotas
from keyholt_agent.store import ListSecrets, SecretPage
from keyholt_agent.transport import server as server_module
from keyholt_agent.transport.server import ACCEPT_PAUSE, Server
from keyholt_agent.transport.stream import ByteStream, SocketByteStream
from keyholt_agent.transport.unix.admission import Admission
from keyholt_agent.transport.unix.credentials import Credentials
from keyholt_agent.transport.unix.endpoint import RefusalLog, UnixEndpoint
from tests.support.inside import PEER, Inside, Peer
from tests.support.intercepting import intercept
from tests.support.wire import HELLO_ARGS

if TYPE_CHECKING:
    from pathlib import Path

    from keyholt_agent.principal import Principal
    from keyholt_agent.transport.session import Session


async def test_refused_peers_fill_no_log(mock_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """The first is told at once, the rest together, once in a while."""
    caplog.set_level(logging.INFO)
    refusals = RefusalLog()
    for turn in range(1, 4):
        for number in range(500):
            refusals.note(Credentials(pid=number, uid=7, gid=7).principal())
        assert len(caplog.records) == turn
        mock_clock.jump(RefusalLog.INTERVAL)
    assert "uid 7, pid 0" in caplog.messages[0]
    assert "500" in caplog.messages[1]


class Door(UnixEndpoint):
    """An endpoint with a defect that is met once."""

    broken = True

    def accept_nowait(self) -> tuple[ByteStream, Principal] | None:
        if self.broken:
            self.broken = False
            raise ZeroDivisionError("CANARY")
        return super().accept_nowait()


async def test_defect_at_the_door_ends_nobody(
    inside: Inside,
    tmp_path: Path,
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nobody is accepted for a while, and then whoever waits is."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        door = Door(listener, Admission(uids=frozenset({os.geteuid()})), RefusalLog())
        server = Server(inside._server._pipeline, inside._buffer, ConnectionQuotas(10, frozenset()))
        async with trio.open_nursery() as serving:
            serving.start_soon(server.serve, [door])
            began = trio.current_time()
            peer = Peer(await trio.open_unix_socket(tmp_path / "s"))
            async with peer.stream:
                (await peer.call("session.hello", **HELLO_ARGS)).expect()
                assert trio.current_time() - began >= ACCEPT_PAUSE
            serving.cancel_scope.cancel()
    assert "defect: ZeroDivisionError" in caplog.text
    assert "CANARY" not in caplog.text


async def test_connection_without_a_session_is_given_back(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no session can be made of it, for want of memory, it is closed and does not count."""

    def without_memory(*_: object) -> Session:
        raise MemoryError

    ours, theirs = socket.socketpair()
    count = inside.services.connections.count
    with ours, monkeypatch.context() as patch:
        patch.setattr(server_module, "Session", without_memory)
        with pytest.raises(MemoryError):
            inside._server.receive(SocketByteStream(theirs), PEER)
        assert ours.recv(1) == b""
    assert inside.services.connections.count == count


async def test_listings_wait_their_turn(
    inside: Inside, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a connection that asks for many pages and takes none, one is in memory; who reads gets all."""
    labels = {f"k{number:02}" + "é" * 30: "ü" * 128 for number in range(16)}
    peer, other = await inside.connect(), await inside.connect()
    for number in range(12):
        (await other.call("secret.put", b"", path=f"a/{number}", labels=labels)).expect()
    asked = [0]
    ask = inside.services.store.ask

    async def counted(command: ListSecrets) -> SecretPage:
        asked[0] += 1
        return await ask(command)

    intercept(monkeypatch, inside.services.store, ListSecrets, counted)
    ids = {await peer.request("secret.list") for _ in range(60)}
    await wait_all_tasks_blocked(0.05)
    assert asked[0] < 10  # as many as the socket's buffer takes, and one
    while ids:
        ids.remove((await peer.receive()).expect().id)
    assert asked[0] == 60
