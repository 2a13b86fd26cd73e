"""Connections over a descriptor that programs inherit: of a real agent, by processes that open no socket."""

from __future__ import annotations

import array
import json
import socket
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import pytest

from keyholt_agent.main import HAND_OUT_SUFFIX
from keyholt_agent.transport.unix.handout import MAX_UNDER_WAY
from tests.support.agent_process import poll
from tests.support.unharmed import KEPT_PATH, unharmed
from tests.support.wire import HELLO_ARGS, ReplyReader, WireClient, request_frame

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.agent_process import AgentProcess

PROGRAM: Final = """
import array, json, os, socket, sys
shared = socket.socket(fileno=int(sys.argv[1]))
values = []
for _ in range(5):
    shared.send(b"?")
    _, rights, _, _ = shared.recvmsg(16, socket.CMSG_SPACE(4))
    (descriptor,) = array.array("i", rights[0][2])
    with socket.socket(fileno=descriptor) as connection:
        connection.sendall(bytes.fromhex(sys.argv[2]))
        received = b""
        while b"the value" not in received:
            received += (data := connection.recv(65536))
            assert data, "closed before the value came"
    values.append(len(received))
print(json.dumps(values))
"""
"""Takes five connections, one after the other, greets and fetches on each."""


@pytest.fixture
def inherited(shared: AgentProcess) -> Iterator[socket.socket]:
    """What a launcher connects and lets its programs inherit; in the end the agent holds nothing of it."""
    with unharmed(shared), launched(shared) as sock:
        yield sock


def launched(agent: AgentProcess) -> socket.socket:
    """A connection to the socket that hands out connections."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        sock.connect(str(agent.socket_path) + HAND_OUT_SUFFIX)
    except BaseException:
        sock.close()
        raise
    return sock


def take(inherited: socket.socket) -> socket.socket:
    """One connection."""
    inherited.send(b"?")
    return receive(inherited)


def receive(inherited: socket.socket) -> socket.socket:
    """One connection that was asked for."""
    _, rights, _, _ = inherited.recvmsg(16, socket.CMSG_SPACE(4))
    (descriptor,) = array.array("i", rights[0][2])
    return socket.socket(fileno=descriptor)


def ask(connection: socket.socket, op: str, **args: object) -> str:
    """The code of the answer to a request on a fresh connection, empty for a success."""
    connection.settimeout(20)
    reader = ReplyReader()
    reader.operations = {1: "session.hello", 2: op}
    with suppress(BrokenPipeError):  # one that is refused can be read all the same
        connection.sendall(request_frame(1, "session.hello", HELLO_ARGS) + request_frame(2, op, args))
    codes: list[str] = []
    while len(codes) < 2:
        if not (data := connection.recv(65536)):
            break
        reader.feed(data)
        while (reply := reader.next_reply()) is not None:
            codes.append(reply.code)
    return codes[-1]


def test_greeting_tells_of_it(inherited: socket.socket, shared: AgentProcess) -> None:
    """An agent that hands out connections says so, on whichever connection."""
    with shared.connect() as direct, WireClient(take(inherited)) as handed_out:
        assert direct.greeting["features"] == handed_out.greeting["features"] == ["hand-out"]


def test_many_programs_share_one(inherited: socket.socket) -> None:
    """Twenty at a time take connections from one inherited descriptor, each its own."""
    frames = request_frame(1, "session.hello", HELLO_ARGS) + request_frame(
        2, "secret.get", {"path": KEPT_PATH}
    )
    programs = [
        subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", PROGRAM, str(inherited.fileno()), frames.hex()],
            pass_fds=[inherited.fileno()],
            stdout=subprocess.PIPE,
        )
        for _ in range(20)
    ]
    printed = [program.communicate(timeout=60)[0] for program in programs]
    assert [program.returncode for program in programs] == [0] * 20
    assert {len(json.loads(line)) for line in printed} == {5}


def test_connections_outlive_the_descriptor(inherited: socket.socket, shared: AgentProcess) -> None:
    """Closing it takes none of them along, and gives back what it counted for."""
    first, second = take(inherited), take(inherited)
    with first, second, shared.connect() as client:
        counted = client.status()["connections"]
        inherited.close()
        assert ask(first, "secret.get", path=KEPT_PATH) == ""
        assert ask(second, "secret.get", path="none") == "not_found"
        poll(lambda: client.status()["connections"] == counted - 1)


def test_too_many_are_told_so(agent: AgentProcess) -> None:
    """Over the limit the connection that is handed out says why, as one that is accepted does."""
    agent.config += "[listen.unix]\nmax_connections = 4\n"
    agent.start()
    with launched(agent) as sock:
        taken = [take(sock) for _ in range(4)]
        try:
            assert [ask(one, "agent.status") for one in taken] == ["", "", "", "resource_exhausted"]
        finally:
            for one in taken:
                one.close()


def test_one_that_takes_no_answers(inherited: socket.socket, shared: AgentProcess) -> None:
    """Who asks for connections without taking them gets so many, and no more until some were taken; the
    descriptor goes on.
    """
    for _ in range(2 * MAX_UNDER_WAY):
        inherited.send(b"?")
    with shared.connect() as client:
        # Its own, the socket's, and those under way: once as connections and, but for one, as under way.
        poll(lambda: client.status()["connections"] == 2 + 2 * MAX_UNDER_WAY - 1)
        for _ in range(2 * MAX_UNDER_WAY):
            receive(inherited).close()
        poll(lambda: client.status()["connections"] == 2)
    with take(inherited) as connection:
        assert ask(connection, "secret.get", path=KEPT_PATH) == ""
