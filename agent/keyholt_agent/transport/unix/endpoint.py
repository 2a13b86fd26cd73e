"""Connections of a listening Unix socket, each with its peer's credentials, held against who is served."""

from __future__ import annotations

import logging
import math
import socket
from typing import Final

import trio

from keyholt_agent.principal import Principal
from keyholt_agent.transport.endpoint import refuse
from keyholt_agent.transport.stream import ByteStream, SocketByteStream
from keyholt_agent.transport.unix.admission import Admission
from keyholt_agent.transport.unix.credentials import Credentials, peer_credentials
from keyholt_protocol.errors import DeniedError

__all__ = ["RareWarning", "RefusalLog", "UnixEndpoint", "accept_peer", "denied"]

_log: Final = logging.getLogger("keyholt.server")


class RareWarning:
    """A warning at most once in ``INTERVAL``: what a peer can cause at will must not fill the log.

    Args:
        sentence: what is said, with one ``%s``.
    """

    INTERVAL: Final = 10.0
    """Seconds."""

    def __init__(self, sentence: str) -> None:
        self._sentence = sentence
        self._next = -math.inf
        self._untold = 0

    def warn(self, what: str) -> None:
        """It has happened; ``what`` fills the sentence."""
        now = trio.current_time()
        self._untold += 1
        if now >= self._next:
            more = f", the last of {self._untold} since the last word" if self._untold > 1 else ""
            _log.warning(f"{self._sentence}%s", what, more)
            self._untold, self._next = 0, now + self.INTERVAL


class RefusalLog(RareWarning):
    """Tells of refused peers."""

    def __init__(self) -> None:
        super().__init__("denied a connection of %s")

    def note(self, principal: Principal) -> None:
        """A connection of this principal was refused."""
        self.warn(principal.name)


class UnixEndpoint:
    """The connections of one listening stream socket, which stays its owner's.

    Args:
        listener: the socket; made non-blocking.
        admission: who is served.
        refusals: where those who are not are noted.
    """

    def __init__(self, listener: socket.socket, admission: Admission, refusals: RefusalLog) -> None:
        listener.setblocking(False)
        self._listener: Final = listener
        self._admission: Final = admission
        self._refusals: Final = refusals

    def fileno(self) -> int:
        return self._listener.fileno()

    def close(self) -> None:
        """The socket is its owner's to close."""

    async def tend(self) -> None:
        """There is nothing to see to."""

    def accept_nowait(self) -> tuple[ByteStream, Principal] | None:
        accepted = accept_peer(self._listener)
        if accepted is None:
            return None
        sock, peer = accepted
        principal = peer.principal()
        stream = SocketByteStream(sock)
        if self._admission.admits(peer, sock):
            return stream, principal
        self._refusals.note(principal)
        refuse(stream, denied(peer))
        return None


def accept_peer(listener: socket.socket) -> tuple[socket.socket, Credentials] | None:
    """The next connection of a listening socket and its peer, if one waits that has not left already.

    Raises:
        OSError: none can be accepted now.
    """
    try:
        sock, _ = listener.accept()
    except (BlockingIOError, ConnectionAbortedError, InterruptedError):
        return None
    try:
        return sock, peer_credentials(sock)
    except OSError:
        sock.close()
        return None


def denied(peer: Credentials) -> DeniedError:
    """What a peer is told that is not served."""
    return DeniedError(f"this agent does not serve uid {peer.uid}; its operator can allow it")
