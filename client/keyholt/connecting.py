"""Opening a stream to the agent, step by step, without waiting: each client waits in its own way."""

from __future__ import annotations

import os
import socket
from collections.abc import Generator
from typing import Final, NamedTuple

from keyholt.address import SYSTEM_SOCKET, Address, own_place
from keyholt.handout import HandOut, HandOutError, has_ended
from keyholt.peer import require_trusted
from keyholt.stream import Ready, SocketStream, Stream
from keyholt.system_errors import of_opening, of_socket
from keyholt_protocol.errors import AgentUnreachableError, DeniedError

__all__ = [
    "CONNECT_TIMEOUT",
    "LEFT_BEHIND",
    "Pause",
    "connecting",
    "no_connection",
    "no_greeting",
    "no_socket",
    "to_start",
]

CONNECT_TIMEOUT: Final = 10.0
"""Seconds for the connection and its greeting at most, whatever time a call has: an agent busy with other
clients answers well within it, and no person is asked for anything."""

LEFT_BEHIND: Final = 1.0
"""Seconds to wait for another stream when the one before it was over; the agent answers in much less. It may
also have been the one that was asked for, which the agent refused: then no other comes."""

CONNECT_PAUSE: Final = 0.01
"""Seconds between attempts while the agent's queue of new connections is full; the kernel tells nobody when
there is room in it again."""


class Pause(NamedTuple):
    """Time that must pass."""

    seconds: float


def connecting(address: Address) -> Generator[Ready | Pause | Stream]:
    """What to wait for, one after the other, and then the stream, which is the caller's from then on.

    A stream may turn out to be over already, with whatever was said to somebody else when it ended, and
    another one be had: whoever got no greeting goes on with the steps, as long as there are any, and does not
    wait longer than ``LEFT_BEHIND`` for the next. Who is at its other end has been asked before it is given
    out, and before a byte is sent to get it.

    Raises:
        AgentUnreachableError: nobody answers there; says what to do.
        AgentUntrustedError: who answers there is not trusted; says who it is, and what to do.
        DeniedError: this user may not connect there, or this program may open no socket.
        ResourceExhaustedError: this program or machine is out of descriptors or memory; says what to raise.
    """
    return _at_path(address) if address.kind == "unix" else _handed_out(address)


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


def no_socket(path: str) -> str:
    """What is missing, by the places that were looked at, among them that of an agent of this user."""
    own = _usual_place()
    if path == SYSTEM_SOCKET and own is not None and own != path and not os.path.exists(own):
        return f"there is no socket at {own}, nor at {path}"
    return f"there is no socket at {path}"


def to_start(path: str) -> str:
    """What to do where no agent serves ``path``: how one is started that clients find."""
    own = _usual_place()
    itself = SYSTEM_SOCKET if os.geteuid() == 0 else None
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        itself = own_place(runtime)
    if path in {own, SYSTEM_SOCKET} and itself is not None:
        return "start the agent with `keyholt-agent`, or give its --address"
    if path == SYSTEM_SOCKET and own is None:
        return (
            "XDG_RUNTIME_DIR is not set: start the agent with `keyholt-agent --socket PATH`, and give PATH "
            "as --address"
        )
    import shlex

    place = own if path == SYSTEM_SOCKET and own is not None else path
    return f"start the agent with `keyholt-agent --socket {shlex.quote(place)}`, or give its --address"


def _usual_place() -> str | None:
    """Where this user's agent is looked for; ``None`` where they have no place of their own."""
    own = own_place(os.environ.get("XDG_RUNTIME_DIR"))
    return SYSTEM_SOCKET if own is None and os.geteuid() == 0 else own


def _at_path(address: Address) -> Generator[Ready | Pause | Stream]:
    try:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    except OSError as error:
        raise of_socket(error) from error
    try:
        sock.setblocking(False)
        while not _connected(sock, address.path):
            yield Pause(CONNECT_PAUSE)
        require_trusted(sock, address)
    except OSError as error:  # the kernel does not tell who serves
        sock.close()
        raise of_opening(error, str(address)) from error
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
        raise AgentUnreachableError(str(error)) from error.__cause__
    except OSError as error:
        raise of_opening(error, str(address)) from error


def _connected(sock: socket.socket, path: str) -> bool:
    try:
        sock.connect(path)
        return True
    except BlockingIOError:
        return False
    except PermissionError as error:
        raise DeniedError(
            f"this user may not connect to {path}; run as the agent's user, or join the group of the socket"
        ) from error
    except FileNotFoundError as error:
        raise AgentUnreachableError(f"{no_socket(path)}; {to_start(path)}") from error
    except ConnectionRefusedError as error:
        raise AgentUnreachableError(f"nobody listens at {path}; {to_start(path)}") from error
    except OSError as error:
        raise of_opening(error, path) from error
