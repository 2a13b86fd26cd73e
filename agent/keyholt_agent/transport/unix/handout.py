"""Connections handed out over an inherited descriptor, for programs that may not open sockets themselves.

A launcher, outside of the sandbox, connects a SEQPACKET socket here and lets its programs inherit it. For
each message that comes in, whatever it holds, one message of one byte goes back with the end of a new stream
connection (SCM_RIGHTS, unix(7)); on that its receiver speaks as on any other. A stream socket could not be
shared so: greetings and frames of its holders would be mixed.

- Whoever holds the descriptor is the principal that connected it: the kernel vouches for that one alone.
- A message whose answer does not fit the socket's buffer is answered by closing the descriptor: its holders
  ask for connections and do not take them. So is a message of no bytes, which cannot be told from the end.
- Where the kernel is short of something it is not the holders' fault: the message stays until it is not.
"""

from __future__ import annotations

import array
import errno
import select
import socket
from typing import Final

from keyholt_agent.principal import Principal
from keyholt_agent.quotas import ConnectionQuotas
from keyholt_agent.transport.stream import ByteStream, SocketByteStream
from keyholt_agent.transport.unix.admission import Admission
from keyholt_agent.transport.unix.endpoint import RefusalLog, accept_peer
from keyholt_protocol.errors import ResourceExhaustedError

__all__ = ["HandOutEndpoint"]

_ANSWER: Final = b"\0"
"""What goes with a descriptor: a message needs a byte, and nothing reads it."""

_SHORTAGES: Final = frozenset({errno.ETOOMANYREFS, errno.ENOMEM, errno.ENOBUFS})
"""Of the kernel: descriptors under way between all processes of the agent's user (unix(7)), and memory."""


class HandOutEndpoint:
    """Everything that is handed out by one listening SEQPACKET socket, which stays its owner's.

    The sockets that were connected here wait together in an epoll of the endpoint's own, so that the server
    sees one descriptor. ``close`` ends them; connections that were handed out live on.

    Args:
        listener: the socket; made non-blocking.
        admission: who is served.
        refusals: where those who are not are noted.
        quotas: where each connected socket counts as a connection.
    """

    def __init__(
        self, listener: socket.socket, admission: Admission, refusals: RefusalLog, quotas: ConnectionQuotas
    ) -> None:
        listener.setblocking(False)
        self._listener: Final = listener
        self._admission: Final = admission
        self._refusals: Final = refusals
        self._quotas: Final = quotas
        self._shared: Final[dict[int, tuple[socket.socket, Principal]]] = {}
        self._epoll: Final = select.epoll()
        self._epoll.register(listener.fileno(), select.EPOLLIN)

    def fileno(self) -> int:
        return self._epoll.fileno()

    def accept_nowait(self) -> tuple[ByteStream, Principal] | None:
        for fd, _ in self._epoll.poll(0, 1):
            if fd in self._shared:
                return self._hand_out(fd)
            self._take_in()
        return None

    def close(self) -> None:
        """Let go of the sockets that were connected here; again is harmless."""
        for fd in tuple(self._shared):
            self._drop(fd)
        self._epoll.close()

    def _take_in(self) -> None:
        """Accept one socket over which connections are going to be handed out."""
        accepted = accept_peer(self._listener)
        if accepted is None:
            return
        sock, peer = accepted
        principal = peer.principal()
        if not self._admission.admits(peer, sock):
            self._refusals.note(principal)
            sock.close()
            return
        try:
            self._quotas.take(principal.quota)
        except ResourceExhaustedError:
            sock.close()
            return
        sock.setblocking(False)
        try:
            self._epoll.register(sock.fileno(), select.EPOLLIN)
        except OSError:
            self._quotas.give_back(principal.quota)
            sock.close()
            raise
        self._shared[sock.fileno()] = sock, principal

    def _hand_out(self, fd: int) -> tuple[ByteStream, Principal] | None:
        """Answer one message with a connection; the agent's end of it."""
        sock, principal = self._shared[fd]
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                if sock.recv(1, socket.MSG_PEEK):  # it is taken when it is answered
                    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [theirs.fileno()]))]
                    sock.sendmsg([_ANSWER], rights, socket.MSG_NOSIGNAL)
                    sock.recv(1)
                    return SocketByteStream(ours), principal
            except OSError as error:
                if error.errno in _SHORTAGES:
                    ours.close()
                    raise
                # Else whoever holds it has gone, or takes no answers.
        ours.close()
        self._drop(fd)  # as when all that held it have closed it
        return None

    def _drop(self, fd: int) -> None:
        sock, principal = self._shared.pop(fd)
        self._epoll.unregister(fd)
        sock.close()
        self._quotas.give_back(principal.quota)
