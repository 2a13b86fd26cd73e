"""Descriptors from which connections are taken, to a real agent and to one that a test plays."""

from __future__ import annotations

import array
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from keyholt.cli.sharing import HAND_OUT_SUFFIX

__all__ = ["CANARY", "address_of", "descriptor_to", "hand_over"]

CANARY: Final = "canary-6f3d"
"""The value of the secret ``fd/a`` of the agent that is shared."""


def address_of(sock: socket.socket) -> str:
    """The descriptor as an address."""
    return f"fd:{sock.fileno()}"


@contextmanager
def descriptor_to(path: str) -> Iterator[socket.socket]:
    """A socket from which connections to the agent at ``path`` are taken, as a launcher gets it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.connect(path + HAND_OUT_SUFFIX)
        yield sock


def hand_over(sock: socket.socket, connection: socket.socket) -> None:
    """Send one connection, as the agent does; the sender's own end of it stays open."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [connection.fileno()]))]
    sock.sendmsg([b"x"], rights)
