"""`keyholt run --share-agent`: a way to the agent that a command inherits, where it may open no socket."""

from __future__ import annotations

import os
import socket
from typing import Final

from keyholt.address import Address
from keyholt.handout import HandOut, HandOutError
from keyholt.peer import require_trusted
from keyholt_protocol.errors import AgentUnreachableError, UnsupportedError

__all__ = ["HAND_OUT_SUFFIX", "share"]

HAND_OUT_SUFFIX: Final = ".fds"
"""What the agent appends to its socket's path for the one that hands out connections."""


def share(address: Address) -> Address:
    """The address by which programs started from here reach the agent: a descriptor that they inherit.

    It names the agent's uid where those programs could not know by themselves that it is to be trusted.

    Raises:
        AgentUnreachableError: the agent hands out no connections; says what to do.
        AgentUntrustedError: who serves there is not trusted; says who it is, and what to do.
        UnsupportedError: an agent at such an address cannot.
    """
    if address.kind == "fd":
        try:
            HandOut(address.descriptor).close()
        except HandOutError as error:
            raise AgentUnreachableError(str(error)) from None
        os.set_inheritable(address.descriptor, True)
        return address
    if address.kind != "unix":
        raise UnsupportedError(f"an agent at {address} hands out no connections; give the path of its socket")
    path = address.path + HAND_OUT_SUFFIX
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.setblocking(False)  # an agent that accepts nothing is not waited for
            sock.connect(path)
        except OSError as error:
            raise AgentUnreachableError(
                f"no connections are handed out at {path} ({error.strerror}); start the agent with "
                "`keyholt-agent`, or give its --address"
            ) from None
        uid = require_trusted(sock, address)
        known = address.uid is None and uid in {0, os.geteuid()}
        sock.setblocking(True)
        sock.set_inheritable(True)
        return Address("fd", descriptor=sock.detach(), uid=None if known else uid)
