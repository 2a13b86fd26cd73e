"""Connections handed out over an inherited descriptor, for programs that may not open sockets themselves.

A launcher, outside of the sandbox, connects a SEQPACKET socket here and lets its programs inherit it. For
each message that comes in, whatever it holds, one message of one byte goes back with the end of a new stream
connection (SCM_RIGHTS, unix(7)); on that its receiver speaks as on any other. A stream socket could not be
shared so: greetings and frames of its holders would be mixed.

- Whoever holds the descriptor is the principal that connected it: the kernel vouches for that one alone.
- A connection that nobody has taken yet is a descriptor under way, and the kernel counts those of all
  processes of the agent's user together (ETOOMANYREFS, unix(7)): who asks and does not take could leave none
  to the others, for as long as its own end is open. So they count as connections of the principal, until they
  are taken and not until the agent closes its end, and of one socket there are ``MAX_UNDER_WAY`` at most.
- A message that cannot be answered stays in the socket until it can: its sender waits, and the descriptor
  goes on. Meanwhile the socket rests, and nobody else waits for it.
- A message of no bytes cannot be told from the end of those who hold the descriptor, and is it.
"""

from __future__ import annotations

import array
import errno
import fcntl
import select
import socket
import sys
import termios
from contextlib import suppress
from typing import Final

import trio

from keyholt_agent.defects import log_defect
from keyholt_agent.principal import Principal
from keyholt_agent.quotas import ConnectionQuotas
from keyholt_agent.transport.stream import ByteStream, SocketByteStream
from keyholt_agent.transport.unix.admission import Admission
from keyholt_agent.transport.unix.endpoint import RareWarning, RefusalLog, accept_peer
from keyholt_protocol.errors import ResourceExhaustedError

__all__ = ["HandOutEndpoint"]

_ANSWER: Final = b"\0"
"""What goes with a descriptor: a message needs a byte, and nothing reads it."""

MAX_UNDER_WAY: Final = 64
"""Connections handed out over one descriptor that nobody has taken yet: more programs than start at the same
time, and their messages fill about a quarter of a socket's usual buffer."""

RETRY: Final = 0.1
"""Seconds until a socket that rests is looked at again: the kernel tells nobody when a message was taken."""

_SHORTAGES: Final = frozenset(
    {errno.ETOOMANYREFS, errno.ENOMEM, errno.ENOBUFS, errno.EMFILE, errno.ENFILE, errno.EAGAIN}
)
"""Of the kernel, of the process, and of room in the socket: nothing that its holders are to be left for."""


class _Shared:
    """A socket over which connections are handed out.

    Attributes:
        counted: how many of those under way are counted as connections. The first is not: at most one more
            than are counted is under way, and that one goes with the socket, which is counted itself.
        rests: its messages are left unread for a while.
        left: nobody holds it any more, or nobody is to; it stays counted while something is under way.
    """

    __slots__ = ("counted", "left", "principal", "rests", "sock")

    def __init__(self, sock: socket.socket, principal: Principal) -> None:
        self.sock = sock
        self.principal = principal
        self.counted = 0
        self.rests = False
        self.left = False


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
        self._shortages: Final = RareWarning("cannot hand out a connection: %s")
        self._weight: Final = _weigh()
        self._shared: Final[dict[int, _Shared]] = {}
        self._tended: Final[set[_Shared]] = set()
        self._has_tended = trio.Event()
        self._epoll: Final = select.epoll()
        self._epoll.register(listener.fileno(), select.EPOLLIN)

    def fileno(self) -> int:
        return self._epoll.fileno()

    def accept_nowait(self) -> tuple[ByteStream, Principal] | None:
        for fd, _ in self._epoll.poll(0, 1):
            if fd in self._shared:
                return self._hand_out(self._shared[fd])
            self._take_in()
        return None

    async def tend(self) -> None:
        """Look again at sockets that rest, and count no longer what was taken."""
        while True:
            await self._has_tended.wait()
            await trio.sleep(RETRY)
            for shared in tuple(self._tended):
                try:
                    self._look_again(shared)
                except Exception as error:  # a defect ends the one socket that it was met with
                    log_defect(error)
                    self._drop(shared)
            if not self._tended:
                self._has_tended = trio.Event()

    def close(self) -> None:
        """Let go of the sockets that were connected here; again is harmless."""
        for shared in tuple(self._shared.values()):
            self._drop(shared)
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
        self._shared[sock.fileno()] = _Shared(sock, principal)

    def _hand_out(self, shared: _Shared) -> tuple[ByteStream, Principal] | None:
        """Answer one message with a connection; the agent's end of it."""
        try:
            asked = shared.sock.recv(1, socket.MSG_PEEK)  # it is taken when it is answered
        except OSError:
            asked = b""
        if not asked:
            self._leave(shared)
            return None
        if not self._count(shared):
            self._rest(shared)
            return None
        try:
            ours = _send_one(shared.sock)
            shared.sock.recv(1)
        except OSError as error:
            if error.errno not in _SHORTAGES:
                self._leave(shared)
                return None
            if error.errno != errno.EAGAIN:
                self._shortages.warn(error.strerror or str(error))
            self._rest(shared)
            return None
        return SocketByteStream(ours), shared.principal

    def _count(self, shared: _Shared) -> bool:
        """Count one more as under way; false if there are too many.

        With nothing under way there is room for one that is not counted: so a principal with too many
        connections is given one all the same, on which the server says so.
        """
        under_way = self._settle(shared)
        if not under_way:
            return True
        if under_way >= MAX_UNDER_WAY:
            return False
        try:
            self._quotas.take(shared.principal.quota)
        except ResourceExhaustedError:
            return False
        shared.counted += 1
        self._tend_to(shared)
        return True

    def _settle(self, shared: _Shared) -> int:
        """How many are under way; those that were taken are not counted any more."""
        under_way = -(-_unread(shared.sock) // self._weight)
        while shared.counted > max(0, under_way - 1):
            self._quotas.give_back(shared.principal.quota)
            shared.counted -= 1
        return under_way

    def _rest(self, shared: _Shared) -> None:
        """Leave its messages where they are for a while."""
        self._epoll.unregister(
            shared.sock.fileno()
        )  # watched for nothing, it would be ready when it hangs up
        shared.rests = True
        self._tend_to(shared)

    def _tend_to(self, shared: _Shared) -> None:
        self._tended.add(shared)
        self._has_tended.set()

    def _look_again(self, shared: _Shared) -> None:
        under_way = self._settle(shared)
        if shared.left:
            if not under_way:
                self._drop(shared)
            return
        if shared.rests and under_way < MAX_UNDER_WAY:
            try:
                self._epoll.register(shared.sock.fileno(), select.EPOLLIN)
                shared.rests = False
            except OSError:
                return  # the kernel is short of something still
        if not shared.rests and not shared.counted:
            self._tended.discard(shared)

    def _leave(self, shared: _Shared) -> None:
        """Hand out nothing more; whoever still holds it is told by its end."""
        self._epoll.unregister(shared.sock.fileno())
        if not self._settle(shared):
            self._drop(shared)
            return
        # Closed now, what is under way would not count any more, and the kernel would go on counting it.
        shared.left = True
        with suppress(OSError):
            shared.sock.shutdown(socket.SHUT_RDWR)
        self._tend_to(shared)

    def _drop(self, shared: _Shared) -> None:
        """Close it; the kernel ceases to watch it by itself (epoll(7))."""
        self._tended.discard(shared)
        del self._shared[shared.sock.fileno()]
        shared.sock.close()
        for _ in range(1 + shared.counted):
            self._quotas.give_back(shared.principal.quota)
        shared.counted = 0


def _send_one(sock: socket.socket) -> socket.socket:
    """Send one end of a new connection over ``sock``; gives the other.

    Raises:
        OSError: nothing was sent.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [theirs.fileno()]))]
        try:
            sock.sendmsg([_ANSWER], rights, socket.MSG_NOSIGNAL)
        except BaseException:
            ours.close()
            raise
    return ours


def _unread(sock: socket.socket) -> int:
    """Bytes of kernel memory that messages take up which the other end has not read (SIOCOUTQ, unix(7))."""
    return int.from_bytes(fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)), sys.byteorder)


def _weigh() -> int:
    """What ``_unread`` tells of one connection under way."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        _send_one(ours).close()
        return _unread(ours)
