"""Opening a stream to the agent, step by step, without waiting: each client waits in its own way."""

from __future__ import annotations

import socket
from collections.abc import Generator
from typing import Final, NamedTuple

from keyholt.address import SYSTEM_SOCKET, Address
from keyholt.stream import Ready, SocketStream, Stream
from keyholt_protocol.errors import AgentUnreachableError

__all__ = ["Pause", "connecting"]

CONNECT_PAUSE: Final = 0.01
"""Seconds between attempts while the agent's queue of new connections is full; the kernel tells nobody when
there is room in it again."""


class Pause(NamedTuple):
    """Time that must pass."""

    seconds: float


def connecting(address: Address) -> Generator[Ready | Pause | Stream]:
    """What to wait for, one after the other, and then the stream, which the caller closes.

    Raises:
        AgentUnreachableError: nobody answers there; says what to do.
        UnsupportedError: the address is none of a Unix socket.
    """
    path = address.socket_path()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.setblocking(False)
        while not _connected(sock, path):
            yield Pause(CONNECT_PAUSE)
    except BaseException:
        sock.close()
        raise
    yield SocketStream(sock)


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
