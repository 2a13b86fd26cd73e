"""Accepts connections and gives each a session, within limits.

- A peer that is not served is told so and let go before a byte of it is read.
- The limits leave descriptors for the store and room for other uids: what one uid opens never shuts out the
  rest.
"""

from __future__ import annotations

import logging
import math
import socket
from dataclasses import dataclass, field
from typing import Final

import trio

from keyholt_agent.memory import Arena, LockedBuffer
from keyholt_agent.pipeline import Pipeline
from keyholt_agent.principal import Principal
from keyholt_agent.quotas import ConnectionQuotas
from keyholt_agent.transport.session import Session
from keyholt_agent.transport.stream import SocketByteStream
from keyholt_agent.transport.unix.admission import Admission
from keyholt_agent.transport.unix.credentials import peer_credentials
from keyholt_protocol.connection import ServerConnection
from keyholt_protocol.errors import DeniedError, KeyholtError

__all__ = ["Server"]

ACCEPT_PAUSE: Final = 0.1
"""Seconds without accepting when the process is out of descriptors or the kernel out of memory."""

_log: Final = logging.getLogger("keyholt.server")


class RefusalLog:
    """Tells of refused peers, at most once in ``INTERVAL``: who is not served must not fill the log."""

    INTERVAL: Final = 10.0
    """Seconds."""

    def __init__(self) -> None:
        self._next = -math.inf
        self._untold = 0

    def note(self, principal: Principal) -> None:
        now = trio.current_time()
        self._untold += 1
        if now >= self._next:
            more = f", the last of {self._untold} since the last word" if self._untold > 1 else ""
            _log.warning("denied a connection of %s%s", principal.name, more)
            self._untold, self._next = 0, now + self.INTERVAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """What every connection of the agent shares. ``buffer`` is the locked memory that sessions receive
    into.
    """

    pipeline: Pipeline
    arena: Arena
    buffer: LockedBuffer
    admission: Admission
    quotas: ConnectionQuotas
    refusals: RefusalLog = field(default_factory=RefusalLog)

    async def serve(self, listener: socket.socket) -> None:
        """Accept and serve connections of one listening socket until cancelled."""
        listener.setblocking(False)
        async with trio.open_nursery() as nursery:
            while True:
                await trio.lowlevel.wait_readable(listener.fileno())
                try:
                    sock, _ = listener.accept()
                except (BlockingIOError, ConnectionAbortedError, InterruptedError):
                    continue
                except OSError as error:
                    _log.warning("cannot accept a connection: %s", error.strerror)
                    await trio.sleep(ACCEPT_PAUSE)
                    continue
                if principal := self._admit(sock):
                    nursery.start_soon(self._serve_peer, sock, principal)

    def _admit(self, sock: socket.socket) -> Principal | None:
        """Who connected, counted; ``None`` and the socket closed if it is not to be served."""
        try:
            peer = peer_credentials(sock)
            principal = peer.principal()
            if not self.admission.admits(peer, sock):
                self.refusals.note(principal)
                raise DeniedError(f"this agent does not serve uid {peer.uid}; its operator can allow it")
            self.quotas.take(principal.quota)
        except KeyholtError as error:
            _refuse(sock, error)
            return None
        except OSError:
            sock.close()
            return None
        return principal

    async def _serve_peer(self, sock: socket.socket, principal: Principal) -> None:
        try:
            await Session(SocketByteStream(sock), principal, self.pipeline, self.arena, self.buffer).serve()
        finally:
            self.quotas.give_back(principal.quota)


def _refuse(sock: socket.socket, error: KeyholtError) -> None:
    """Send why and close; the answer fits the empty socket buffer of a new connection."""
    with sock:
        sock.setblocking(False)
        try:
            sock.send(ServerConnection().send_error(0, error), socket.MSG_NOSIGNAL)
        except OSError:
            return
