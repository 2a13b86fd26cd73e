"""The address ``fd:N``: connections taken from an inherited descriptor, by every client."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

import keyholt
from keyholt import asynchronous, blocking
from keyholt.connecting import LEFT_BEHIND
from keyholt.handout import HandOut
from keyholt_protocol.errors import (
    AgentUnreachableError,
    DeadlineExceededError,
    DeniedError,
    ResourceExhaustedError,
)
from keyholt_protocol.messages import SecretGetResult
from tests.client.conftest import command_line
from tests.client.handing_out import CANARY, address_of, hand_over
from tests.client.scripted import Peer


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a descriptor: a program's, and the agent's, which the test plays."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


def test_every_client_takes_its_connections_there(shared: socket.socket) -> None:
    """Blocking, trio and asyncio, one after the other and at once, over one descriptor."""
    address = address_of(shared)
    assert keyholt.get("fd/a", address=address).text == CANARY
    with keyholt.connect(address) as one, keyholt.connect(address) as other:
        assert [one.get("fd/a").text, other.get("fd/a").text] == [CANARY] * 2

    async def with_trio() -> None:
        async def fetch() -> None:
            assert (await keyholt.trio.get("fd/a", address=address)).text == CANARY

        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(fetch)

    async def with_asyncio() -> None:
        async with asyncio.timeout(20):
            secrets = await asyncio.gather(*(keyholt.asyncio.get("fd/a", address=address) for _ in range(20)))
        assert [secret.text for secret in secrets] == [CANARY] * 20

    trio.run(with_trio)
    asyncio.run(with_asyncio())


def test_the_descriptor_stays_as_it_was(shared: socket.socket) -> None:
    """It is neither closed nor made non-blocking, and no duplicate of it is left behind."""
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        assert keyholt.get("fd/a", address=address_of(shared)).text == CANARY
    assert os.get_blocking(shared.fileno())
    assert len(os.listdir("/proc/self/fd")) == before


def expect(message: str) -> pytest.RaisesExc[AgentUnreachableError]:
    """The error that a client must give."""
    return pytest.raises(AgentUnreachableError, match=message)


def test_each_wrong_descriptor_has_its_sentence(tmp_path: Path) -> None:
    """One that is not open, no socket, a socket of another kind, and one that is connected to nobody."""
    with expect("the descriptor 71 is not open in this program; whoever starts it"):
        keyholt.connect("fd:71")
    with (
        open(tmp_path / "file", "wb") as file,
        expect("is no SEQPACKET socket connected to an agent; pass on"),
    ):
        keyholt.connect(f"fd:{file.fileno()}")
    stream, other = socket.socketpair()
    with stream, other, expect("is no SEQPACKET socket"):
        keyholt.connect(address_of(stream))
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as alone, expect("is no SEQPACKET socket"):
        keyholt.connect(address_of(alone))
    for words in (("get", "a"), ("status",)):
        ran = command_line("--address", "fd:71", *words)
        assert (ran.status, "the descriptor 71 is not open" in ran.err) == (6, True)


def test_an_agent_that_has_gone_is_named(pair: tuple[socket.socket, socket.socket]) -> None:
    """Gone before the asking, and gone between the asking and the answer."""
    ours, theirs = pair

    def ask_and_go() -> None:
        theirs.recv(16)
        theirs.close()

    thread = threading.Thread(target=ask_and_go)
    thread.start()
    for _ in range(2):
        with expect("the agent at the other end of the descriptor .* has gone; start it again"):
            keyholt.connect(address_of(ours))
    thread.join()


def test_a_message_without_a_connection_is_named(pair: tuple[socket.socket, socket.socket]) -> None:
    """What is no connection is refused: nothing at all, or a descriptor that is no socket."""
    ours, theirs = pair
    theirs.send(b"x")
    with expect("a message without a connection"):
        keyholt.connect(address_of(ours))
    with open("/dev/null", "rb") as file:
        socket.send_fds(theirs, [b"x"], [file.fileno()])
    with expect("is no SEQPACKET socket connected to an agent"):
        keyholt.connect(address_of(ours))


def open_pipe() -> int:
    """A descriptor that is no socket."""
    reading, writing = os.pipe()
    os.close(writing)
    return reading


@pytest.mark.parametrize(
    "make",
    [
        open_pipe,
        lambda: socket.socket(socket.AF_INET).detach(),
        lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).detach(),
        lambda: socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).detach(),
    ],
    ids=["pipe", "internet", "datagrams", "packets"],
)
def test_only_a_unix_stream_is_a_connection(
    pair: tuple[socket.socket, socket.socket], make: Callable[[], int]
) -> None:
    """A descriptor of another kind is refused, and not left open."""
    ours, theirs = pair
    sent = make()
    socket.send_fds(theirs, [b"x"], [sent])
    os.close(sent)
    before = os.listdir("/proc/self/fd")
    with expect("is no SEQPACKET socket connected to an agent"):
        keyholt.connect(address_of(ours))
    assert os.listdir("/proc/self/fd") == before


def test_one_message_carries_one_connection(pair: tuple[socket.socket, socket.socket]) -> None:
    """Several in one message are refused, and none is left open."""
    ours, theirs = pair
    connections = [*socket.socketpair(), *socket.socketpair()]
    socket.send_fds(theirs, [b"x"], [connection.fileno() for connection in connections])
    for connection in connections:
        connection.close()
    before = os.listdir("/proc/self/fd")
    with expect("a message without a connection"):
        keyholt.connect(address_of(ours))
    assert os.listdir("/proc/self/fd") == before


def test_no_room_for_a_descriptor_is_named(pair: tuple[socket.socket, socket.socket]) -> None:
    """A program at its limit of open files is told so, and what it could not take is not left open."""
    ours, theirs = pair
    connection, other = socket.socketpair()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with connection, other:
        hand_over(theirs, connection)
        hand_out = HandOut(ours.fileno())
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
            with pytest.raises(Exception, match="too many files open"):
                hand_out.take()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            hand_out.close()
        connection.close()
        assert other.recv(1) == b""


def fill(sock: socket.socket) -> None:
    """Send until nothing more is taken."""
    for _ in range(100_000):
        try:
            sock.send(b"x", socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
    pytest.fail("the socket takes everything")


def test_a_silent_agent_has_a_deadline(pair: tuple[socket.socket, socket.socket]) -> None:
    """One that takes no question, and one that answers none, fail after the time given."""
    ours, theirs = pair
    with expect("accepts no connection within 0.05 seconds"):
        keyholt.connect(address_of(ours), timeout=0.05)
    fill(ours)
    with expect("accepts no connection within 0.05 seconds"):
        keyholt.connect(address_of(ours), timeout=0.05)
    assert theirs.recv(16) == b"\0"


def serve(connection: socket.socket) -> None:
    """Answer the greeting and one fetch."""
    connection.settimeout(20)
    peer = Peer(connection)
    peer.greet()
    request, _ = peer.request()
    peer.answer(request, SecretGetResult(version=1, created=1), CANARY.encode())


@pytest.mark.parametrize("client", ["blocking", "trio", "asyncio", "get"])
def test_what_another_left_behind_is_passed_over(
    pair: tuple[socket.socket, socket.socket], client: str
) -> None:
    """Connections that were asked for by a program that died, and that the agent has closed since, with a
    last word or without, are given up; one asking is enough to get the one behind them.
    """
    ours, theirs = pair
    words = (
        DeadlineExceededError("no greeting within 30 seconds"),
        None,
        ResourceExhaustedError("too many connections"),
        DeniedError("not served"),
    )
    for word in words:
        mine, stale = socket.socketpair()
        with mine, stale:
            hand_over(theirs, stale)
            if word is not None:
                Peer(mine).fail(None, word)
    asked: list[bytes] = []

    def hand_one() -> None:
        asked.append(theirs.recv(16))
        mine, fresh = socket.socketpair()
        with mine:
            with fresh:
                hand_over(theirs, fresh)
            serve(mine)

    thread = threading.Thread(target=hand_one)
    thread.start()
    try:
        assert fetch(client, ours) == CANARY
    finally:
        thread.join()
    with pytest.raises(BlockingIOError):
        theirs.recv(16, socket.MSG_DONTWAIT)
    assert asked == [b"\0"]


def fetch(client: str, sock: socket.socket) -> str:
    """The secret ``a``, by one of the clients."""
    address = address_of(sock)
    if client == "trio":
        return trio.run(lambda: keyholt.trio.get("a", address=address)).text
    if client == "asyncio":
        return asyncio.run(keyholt.asyncio.get("a", address=address)).text
    if client == "get":
        return command_line("--address", address, "get", "a", pass_fds=[sock.fileno()]).out.decode()
    return keyholt.get("a", address=address).text


@pytest.mark.parametrize("client", ["blocking", "trio", "asyncio"])
def test_a_refusal_on_a_fresh_connection_is_the_answer(
    pair: tuple[socket.socket, socket.socket], client: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the agent says of the connection that it hands out reaches the caller: another one might follow,
    and is not waited for long.
    """
    for module in (blocking, asynchronous):
        assert module.LEFT_BEHIND == LEFT_BEHIND
        monkeypatch.setattr(module, "LEFT_BEHIND", 0.1)
    ours, theirs = pair
    mine, fresh = socket.socketpair()
    with mine, fresh:
        hand_over(theirs, fresh)
        Peer(mine).fail(None, ResourceExhaustedError("too many connections"))
    with pytest.raises(ResourceExhaustedError, match="too many connections"):
        fetch(client, ours)
