"""Opening a stream to the agent, step by step, without waiting: each client waits in its own way."""

from __future__ import annotations

import socket
from collections.abc import Generator
from typing import Final, NamedTuple

from keyholt.address import SYSTEM_SOCKET, Address
from keyholt.handout import HandOut, HandOutError, has_ended
from keyholt.peer import require_trusted
from keyholt.stream import Ready, SocketStream, Stream
from keyholt_protocol.errors import AgentUnreachableError, UnsupportedError

__all__ = ["CONNECT_TIMEOUT", "Pause", "connecting", "no_connection", "no_greeting"]

CONNECT_TIMEOUT: Final = 10.0
"""Seconds for the connection and its greeting at most, whatever time a call has: an agent busy with other
clients answers well within it, and no person is asked for anything."""

CONNECT_PAUSE: Final = 0.01
"""Seconds between attempts while the agent's queue of new connections is full; the kernel tells nobody when
there is room in it again."""


class Pause(NamedTuple):
    """Time that must pass."""

    seconds: float


def connecting(address: Address) -> Generator[Ready | Pause | Stream]:
    """What to wait for, one after the other, and then the stream, which is the caller's from then on.

    A stream may turn out to be over already, and another one be had: whoever finds that it ended before it
    was answered goes on with the steps, as long as there are any. Who is at its other end has been asked
    before it is given out, and before a byte is sent to get it.

    Raises:
        AgentUnreachableError: nobody answers there; says what to do.
        AgentUntrustedError: who answers there is not trusted; says who it is, and what to do.
        UnsupportedError: this version does not speak over such an address.
    """
    if address.kind == "unix":
        return _at_path(address)
    if address.kind == "fd":
        return _handed_out(address)
    raise UnsupportedError(
        f"{address.kind}:// addresses are not served by this version of Keyholt; "
        "give the path of the agent's socket"
    )


def no_connection(address: Address, seconds: float) -> AgentUnreachableError:
    """The error of a client who gave up waiting for a stream."""
    return AgentUnreachableError(
        f"the agent at {address} accepts no connection within {seconds:.3g} seconds; is it stopped?"
    )


def no_greeting(address: Address) -> AgentUnreachableError:
    """The error of a client who gave up waiting for the answer to its greeting."""
    return AgentUnreachableError(
        f"the agent at {address} accepted the connection and does not answer; see its log, or start it again"
    )


def _at_path(address: Address) -> Generator[Ready | Pause | Stream]:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.setblocking(False)
        while not _connected(sock, address.path):
            yield Pause(CONNECT_PAUSE)
        require_trusted(sock, address)
    except BaseException:
        sock.close()
        raise
    yield SocketStream(sock)


def _handed_out(address: Address) -> Generator[Ready | Pause | Stream]:
    """One connection is asked for. Those that others asked for and left behind, and that have ended since,
    come before it and are given up.
    """
    try:
        hand_out = HandOut(address.descriptor)
        try:
            require_trusted(hand_out.sock, address)
            while not hand_out.ask():
                yield Ready(hand_out.fileno(), readable=False, writable=True)
            left_behind = True
            while left_behind:
                while (taken := hand_out.take()) is None:
                    yield Ready(hand_out.fileno(), readable=True, writable=False)
                try:
                    require_trusted(taken, address)
                except BaseException:
                    taken.close()
                    raise
                left_behind = has_ended(taken)
                yield SocketStream(socket.socket(fileno=taken.detach()))
        finally:
            hand_out.close()
    except HandOutError as error:
        raise AgentUnreachableError(str(error)) from None


def _connected(sock: socket.socket, path: str) -> bool:
    try:
        sock.connect(path)
        return True
    except BlockingIOError:
        return False
    except OSError as error:
        raise AgentUnreachableError(_unreachable(path, error)) from None


def _unreachable(path: str, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        own = " nor in $XDG_RUNTIME_DIR/keyholt" if path == SYSTEM_SOCKET else ""
        remedy = "start the agent with `keyholt-agent`, or give its --address"
        return f"there is no socket at {path}{own}; {remedy}"
    if isinstance(error, ConnectionRefusedError):
        return f"nobody listens at {path}; start the agent with `keyholt-agent`"
    if isinstance(error, PermissionError):
        return (
            f"this user may not connect to {path}; run as the agent's user, or join the group of the socket"
        )
    return f"the agent at {path} cannot be reached ({error.strerror}); see `keyholt doctor`"
