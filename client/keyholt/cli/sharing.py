"""`keyholt run --share-agent`: a way to the agent that a command inherits, where it may open no socket."""

from __future__ import annotations

import os
import socket
from typing import Final

from keyholt.address import Address
from keyholt.blocking import Client
from keyholt.peer import require_trusted
from keyholt_protocol.errors import AgentUnreachableError, UnsupportedError
from keyholt_protocol.messages import SessionHelloResult

__all__ = ["HAND_OUT_SUFFIX", "share"]

HAND_OUT_SUFFIX: Final = ".fds"
"""What the agent appends to its socket's path for the one that hands out connections."""

HAND_OUT: Final = "hand-out"
"""The feature by which an agent's greeting says that it has one."""


def share(address: Address, timeout: float | None) -> Address:
    """The address by which programs started from here reach the agent: a descriptor that they inherit.

    The agent is greeted at ``address``, and then over the descriptor as those programs will: what would keep
    them from it is met here, before any is started. The address names the agent's uid where those programs
    could not know by themselves that it is to be trusted.

    Args:
        timeout: as of ``keyholt.connect``, for each of the two.

    Raises:
        AgentUnreachableError: it does not answer, or nobody hands out connections; says what to do.
        AgentUntrustedError: who serves there is not trusted; says who it is, and what to do.
        DeniedError: it does not serve this user.
        UnsupportedError: it hands out no connections.
    """
    greeting = _greet(address, timeout)
    if address.kind == "fd":
        os.set_inheritable(address.descriptor, True)
        return address
    path = address.path + HAND_OUT_SUFFIX
    if HAND_OUT not in greeting.features:
        raise UnsupportedError(
            f"the agent at {address} hands out no connections, for its service manager passed on no socket "
            f"for that; add ListenSequentialPacket={path} to its socket unit"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.setblocking(False)  # an agent that accepts nothing is not waited for
            sock.connect(path)
        except OSError as error:
            raise AgentUnreachableError(
                f"the agent at {address} hands out connections, and not at {path} ({error.strerror}); start "
                "it anew, or correct ListenSequentialPacket= in its socket unit"
            ) from None
        uid = require_trusted(sock, address)
        known = address.uid is None and uid in {0, os.geteuid()}
        sock.setblocking(True)
        shared = Address("fd", descriptor=sock.fileno(), uid=None if known else uid)
        _greet(shared, timeout)
        sock.set_inheritable(True)
        sock.detach()
        return shared


def _greet(address: Address, timeout: float | None) -> SessionHelloResult:
    with Client(address, timeout=timeout) as client:
        return client.greeting
