"""Connections that are handed out and not taken: how many there may be, and who waits for whom."""

from __future__ import annotations

import logging
import os
import resource
import select
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from keyholt_agent.principal import Principal
from keyholt_agent.quotas import ConnectionQuotas
from keyholt_agent.transport.stream import ByteStream
from keyholt_agent.transport.unix import handout
from keyholt_agent.transport.unix.admission import Admission
from keyholt_agent.transport.unix.endpoint import RefusalLog
from keyholt_agent.transport.unix.handout import MAX_UNDER_WAY, RETRY, HandOutEndpoint
from keyholt_protocol.errors import ResourceExhaustedError

TOTAL = 300
"""Connections at once; half of them for a principal."""


class Scene:
    """An endpoint with what a server does about its connections."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.quotas = ConnectionQuotas(TOTAL, frozenset())
        self._stack = stack
        self._listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        self._listener.bind(str(directory / "s"))
        self._listener.listen()
        admission = Admission(uids=frozenset({os.geteuid()}))
        made = HandOutEndpoint(self._listener, admission, RefusalLog(), self.quotas)
        self.endpoint = stack.enter_context(closing(made))
        self.served: list[tuple[ByteStream, Principal]] = []
        stack.callback(self.end)

    def holder(self) -> socket.socket:
        """A socket from which connections are taken."""
        sock = self._stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        sock.connect(self._listener.getsockname())
        sock.setblocking(False)
        self.serve()
        return sock

    def serve(self) -> None:
        """Hand out what can be handed out now."""
        for _ in range(10_000):
            if (arrival := self.endpoint.accept_nowait()) is not None:
                stream, principal = arrival
                try:
                    self.quotas.take(principal.quota)
                except ResourceExhaustedError:
                    stream.close()
                else:
                    self.served.append(arrival)
            elif not select.select([self.endpoint], [], [], 0)[0]:
                return
        pytest.fail("the endpoint is never at rest")

    async def go_on(self, clock: MockClock) -> None:
        """Let the endpoint look again at what rests, and hand out what can be handed out then."""
        await wait_all_tasks_blocked()
        clock.jump(RETRY)
        await wait_all_tasks_blocked()
        self.serve()

    def end(self) -> None:
        """Close every connection, as the server does with those that do not greet in time."""
        for stream, principal in self.served:
            stream.close()
            self.quotas.give_back(principal.quota)
        self.served.clear()


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    """An endpoint that is tended; in the end nothing is counted any more."""
    with ExitStack() as stack:
        scene = Scene(tmp_path, stack)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scene.endpoint.tend)
            yield scene
            nursery.cancel_scope.cancel()
        scene.end()
        scene.endpoint.close()
        assert scene.quotas.count == 0


def ask(sock: socket.socket, times: int) -> None:
    """Ask for so many connections."""
    for _ in range(times):
        sock.send(b"?")


def take(sock: socket.socket, times: int = 1_000) -> int:
    """Take what was handed out, so many at most; how many there were."""
    for taken in range(times):
        try:
            data, descriptors, _, _ = socket.recv_fds(sock, 1, 1)
        except BlockingIOError:
            return taken
        if not data:
            return taken
        assert len(descriptors) == 1
        os.close(descriptors[0])
    return times


async def test_at_most_so_many_wait_to_be_taken(scene: Scene, mock_clock: MockClock) -> None:
    """Who asks for more waits, and gets all that was asked for as the others are taken."""
    holder = scene.holder()
    ask(holder, 2 * MAX_UNDER_WAY + 10)
    taken: list[int] = []
    for _ in range(4):
        await scene.go_on(mock_clock)
        taken.append(take(holder))
        scene.end()
    assert taken == [MAX_UNDER_WAY, MAX_UNDER_WAY, 10, 0]
    ask(holder, 1)
    scene.serve()
    assert take(holder) == 1


async def test_what_is_not_taken_counts(scene: Scene, mock_clock: MockClock) -> None:
    """However many sockets a principal opens, and however long it waits: under way are no more connections
    than it may have, also when the agent has closed its ends of them, and the rest is for others.
    """
    holders: list[socket.socket] = []
    for _ in range(10):
        for _ in range(5):
            holders.append(scene.holder())
            with suppress(BrokenPipeError):  # closed at once, for it has too many connections by now
                ask(holders[-1], 20)
        scene.serve()
        await scene.go_on(mock_clock)
        scene.end()
    for _ in range(TOTAL // 2):
        scene.quotas.take("another principal")
    assert sum(map(take, holders)) <= TOTAL // 2
    for _ in range(TOTAL // 2):
        scene.quotas.give_back("another principal")
    ask(holders[0], 1)
    await scene.go_on(mock_clock)
    assert take(holders[0]) == 1  # it goes on when there is room again


async def test_one_with_too_many_is_given_one_that_says_so(scene: Scene, mock_clock: MockClock) -> None:
    """So that it learns why: if nothing is under way on its socket, its connection comes, and is refused."""
    holder, other = scene.holder(), scene.holder()
    principal = ("uid", os.geteuid())
    for _ in range(TOTAL // 2 - 2):
        scene.quotas.take(principal)
    ask(holder, 3)
    ask(other, 1)
    scene.serve()
    await scene.go_on(mock_clock)
    assert (take(holder), take(other), scene.served) == (1, 1, [])
    for _ in range(TOTAL // 2 - 2):
        scene.quotas.give_back(principal)
    await scene.go_on(mock_clock)
    assert (take(holder), len(scene.served)) == (2, 2)


async def test_nobody_waits_for_one_that_takes_nothing(scene: Scene) -> None:
    """Others are handed their connections at once, while its messages are left unread."""
    stalling, prompt = scene.holder(), scene.holder()
    ask(stalling, 2 * MAX_UNDER_WAY)
    scene.serve()
    ask(prompt, 1)
    scene.serve()
    assert take(prompt) == 1


async def test_a_shortage_ends_nothing_and_fills_no_log(
    scene: Scene, mock_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Without descriptors the message stays where it is; when there are some again it is answered."""
    caplog.set_level(logging.WARNING)
    holder = scene.holder()
    ask(holder, 1)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        for _ in range(5):
            await scene.go_on(mock_clock)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert caplog.messages == ["cannot hand out a connection: Too many open files"]
    assert take(holder) == 0
    await scene.go_on(mock_clock)
    assert take(holder) == 1


async def test_an_answer_without_room_ends_nothing(scene: Scene, mock_clock: MockClock) -> None:
    """A socket whose buffer is small is answered as there is room."""
    holder = scene.holder()
    (shared,) = scene.endpoint._shared.values()
    shared.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    ask(holder, 20)
    scene.serve()
    taken = first = take(holder)
    for _ in range(20):
        await scene.go_on(mock_clock)
        taken += take(holder)
    assert 0 < first < taken == 20


async def test_a_defect_ends_the_one_that_it_was_met_with(
    scene: Scene, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The others are seen to, and get what they wait for."""
    broken, other = scene.holder(), scene.holder()
    unread, peers = handout._unread, [shared.sock for shared in scene.endpoint._shared.values()]
    ask(broken, 10)
    ask(other, MAX_UNDER_WAY + 1)
    scene.serve()

    def defective(sock: socket.socket) -> int:
        if sock is peers[0]:
            raise ZeroDivisionError
        return unread(sock)

    monkeypatch.setattr(handout, "_unread", defective)
    assert take(other) == MAX_UNDER_WAY
    await scene.go_on(mock_clock)
    assert (take(other), take(broken), broken.recv(1)) == (1, 10, b"")
    assert caplog.text.count("defect: ZeroDivisionError") == 1


@pytest.mark.parametrize("farewell", ["message of no bytes", "shut down"])
async def test_leaving_with_some_under_way_frees_nothing(
    scene: Scene, mock_clock: MockClock, farewell: str
) -> None:
    """Who says that nobody holds the socket any more, and still does, has what is under way counted."""
    holder = scene.holder()
    ask(holder, 10)
    scene.serve()
    if farewell == "shut down":
        holder.shutdown(socket.SHUT_WR)
    else:
        holder.send(b"")
    await scene.go_on(mock_clock)
    scene.end()
    assert scene.quotas.count == 10
    assert take(holder, 10) == 10
    await scene.go_on(mock_clock)
    assert scene.quotas.count == 0
    assert holder.recv(1) == b""


async def test_closing_with_some_under_way_frees_all(scene: Scene, mock_clock: MockClock) -> None:
    """When nobody holds the socket any more, nothing is under way."""
    holder = scene.holder()
    ask(holder, 10)
    scene.serve()
    holder.close()
    await scene.go_on(mock_clock)
    scene.end()
    assert scene.quotas.count == 0
