"""What the system refuses to a client is an error of Keyholt that says what to do, and keeps its cause."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

import keyholt
from keyholt.stream import SocketStream
from keyholt.system_errors import has_gone, of_opening, of_socket
from keyholt_protocol.errors import (
    AgentUnreachableError,
    DeniedError,
    KeyholtError,
    ResourceExhaustedError,
)
from keyholt_protocol.messages import SecretGetResult
from tests.client.conftest import RunningAgent
from tests.client.libraries import Library
from tests.client.scripted import Peer, ScriptedAgent

CANARY = b"canary-9d3e"
SEND = SocketStream.send


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    """The time in which this process can open no file: the limit is the lowest free number."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_program_without_descriptors_is_told_which_limit(agent: RunningAgent) -> None:
    """EMFILE is a named error, and with a descriptor free the same call works."""
    with no_descriptor_left(), pytest.raises(ResourceExhaustedError, match="ulimit -n") as caught:
        keyholt.get("a", address=agent.address)
    assert isinstance(caught.value.__cause__, OSError)
    assert (caught.value.__cause__.errno, caught.value.retryable) == (errno.EMFILE, True)
    keyholt.connect(agent.address).close()


def test_an_inherited_descriptor_is_not_blamed() -> None:
    """Where ``fd:N`` cannot be duplicated for want of room, the error does not say that it is closed."""
    with no_descriptor_left(), pytest.raises(ResourceExhaustedError, match="ulimit -n"):
        keyholt.connect("fd:0")


def test_tasks_are_told_too(agent: RunningAgent, library: Library) -> None:
    """The clients for tasks have the same error."""

    async def main() -> None:
        with no_descriptor_left(), pytest.raises(ResourceExhaustedError, match="ulimit -n"):
            async with library.connect(agent.address):
                pass

    library.run(main)


def test_a_path_in_a_circle_is_named(tmp_path: Path) -> None:
    """A path that the kernel cannot follow is an unreachable agent, by the system's words."""
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(AgentUnreachableError, match=r"symbolic links\); give the path") as caught:
        keyholt.connect(tmp_path / "circle" / "s")
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize(
    "made,code,kind,remedy",
    [
        (of_socket, errno.EACCES, DeniedError, "keyholt run --share-agent"),
        (of_socket, errno.EAFNOSUPPORT, DeniedError, "keyholt run --share-agent"),
        (of_socket, errno.ENFILE, ResourceExhaustedError, "sysctl fs.file-max"),
        (of_socket, errno.ENOBUFS, ResourceExhaustedError, "try again"),
        (lambda error: of_opening(error, "/s"), errno.ENOMEM, ResourceExhaustedError, "try again"),
        (lambda error: of_opening(error, "/s"), errno.ENAMETOOLONG, AgentUnreachableError, "agent at /s"),
    ],
)
def test_what_cannot_be_brought_about_here(
    made: Callable[[OSError], KeyholtError], code: int, kind: type[KeyholtError], remedy: str
) -> None:
    """Each refusal has its error, the system's words and a remedy."""
    error = made(OSError(code, os.strerror(code)))
    assert type(error) is kind
    assert remedy in str(error)
    assert os.strerror(code) in str(error)


def test_a_socket_that_refuses_to_send_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read that could not be sent is made again at once: an agent that is still there is not waited for.

    The kernel cannot be brought to run out of buffers here: the stream says it for it.
    """
    refusals = [errno.ENOBUFS]

    def send(stream: SocketStream, parts: Sequence[memoryview | bytes]) -> int:
        if refusals and b"secret.get" in b"".join(parts):
            raise OSError(refusals[0], os.strerror(refusals.pop()))
        return SEND(stream, parts)

    def greet(peer: Peer) -> None:
        peer.greet()
        with pytest.raises(EOFError):
            peer.request()

    def serve(peer: Peer) -> None:
        peer.greet()
        request, _ = peer.request()
        peer.answer(request, SecretGetResult(version=1, created=1), CANARY)

    monkeypatch.setattr(SocketStream, "send", send)
    with ScriptedAgent(tmp_path / "s", greet, serve) as agent, keyholt.connect(agent.address) as client:
        assert client.get("a").bytes == CANARY
        assert (agent.connections, refusals) == (2, [])


def test_a_broken_connection_keeps_its_cause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that may have left names what the system said; nothing is made again."""

    def receive(stream: SocketStream, room: memoryview) -> int | None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    def serve(peer: Peer) -> None:
        peer.greet()
        while True:
            peer.request()

    with ScriptedAgent(tmp_path / "s", serve) as agent, keyholt.connect(agent.address) as client:
        monkeypatch.setattr(client._poller, "wait", lambda *_: True)
        monkeypatch.setattr(SocketStream, "receive_into", receive)
        with pytest.raises(AgentUnreachableError, match=r"broke \(Cannot allocate memory\) before") as caught:
            client.put("a", CANARY)
        assert isinstance(caught.value.__cause__, OSError)
        assert "may or may not" in str(caught.value)


def test_an_agent_that_went_away_is_no_refusal() -> None:
    """The errors of a closed connection are not this side's."""
    assert has_gone(BrokenPipeError(errno.EPIPE, ""))
    assert has_gone(ConnectionResetError(errno.ECONNRESET, ""))
    assert not has_gone(OSError(errno.ENOBUFS, ""))
