"""The stream that a channel speaks over: the one seam between the protocol and what carries it.

- A stream never waits. What has to be waited for before it can go on is a ``Ready``, and each client waits
  in its own way (``poll``, trio, asyncio); no other module knows of sockets.
- So far a Unix socket carries it. TLS will be another ``Stream``: it may have to write before it can read,
  and may hold decrypted bytes already, which is why it says itself what to wait for.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NamedTuple, Protocol

__all__ = ["Ready", "SocketStream", "Stream"]

MAX_PARTS: Final = 1024
"""Pieces of memory that one system call sends (UIO_MAXIOV of Linux)."""


class Ready(NamedTuple):
    """A descriptor's readiness: to be readable, to be writable, or either."""

    descriptor: int
    readable: bool
    writable: bool


class Stream(Protocol):
    """A connected stream of bytes, owned by one channel."""

    def send(self, parts: Sequence[memoryview | bytes]) -> int:
        """Send what can be sent at once of the parts, in order; gives the number of bytes, 0 if none can be.

        Raises:
            OSError: the other side has gone. If it had gone before the call, nothing was sent.
        """
        ...

    def receive_into(self, room: memoryview) -> int | None:
        """Receive into ``room`` what is there; 0 at the end of the stream, ``None`` if nothing is there yet.

        Raises:
            OSError: the stream is broken.
        """
        ...

    def waits_for(self, *, to_send: bool) -> Ready | None:
        """What must come before more can be received or, with ``to_send``, sent; ``None``: go on at once."""
        ...

    def finish_sending(self) -> None:
        """Tell the other side that nothing more comes; what it sends can still be received."""
        ...

    def close(self) -> None:
        """Close it; closing it twice is no error."""
        ...


class SocketStream:
    """A connected Unix socket, which the stream owns and makes non-blocking.

    The kernel tells a sender at once that the other side has closed (EPIPE), so that ``send`` needs no look
    at what can be received first.
    """

    __slots__ = ("_either", "_readable", "_sock")

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._readable = Ready(sock.fileno(), readable=True, writable=False)
        self._either = Ready(sock.fileno(), readable=True, writable=True)

    def send(self, parts: Sequence[memoryview | bytes]) -> int:
        """See ``Stream``."""
        try:
            return self._sock.sendmsg(parts if len(parts) <= MAX_PARTS else parts[:MAX_PARTS])
        except BlockingIOError:
            return 0

    def receive_into(self, room: memoryview) -> int | None:
        """See ``Stream``."""
        try:
            return self._sock.recv_into(room)
        except BlockingIOError:
            return None

    def waits_for(self, *, to_send: bool) -> Ready:
        """See ``Stream``."""
        return self._either if to_send else self._readable

    def finish_sending(self) -> None:
        """See ``Stream``."""
        with suppress(OSError):  # the other side has gone: it need not be told
            self._sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """See ``Stream``."""
        self._sock.close()
