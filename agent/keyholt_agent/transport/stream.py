"""A connected socket as a session uses it: it never waits, and nothing goes through ``bytes``.

- Receives go into memory that the caller owns, sends come from it: a payload never passes through an object
  of the interpreter's heap.
- Who waits until the stream is ready again is the server, for all its streams at once, by ``fileno``.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Final, Protocol

__all__ = ["ByteStream", "PeerGoneError", "SocketByteStream"]


class PeerGoneError(Exception):
    """The peer has left, or takes nothing any more: the connection is over."""


class ByteStream(Protocol):
    """What a session needs of a connection. The first two raise ``PeerGoneError`` when the peer is gone."""

    def receive_nowait(self, target: memoryview) -> int | None:
        """Bytes received into ``target``; 0 at the end of the stream, ``None`` if none are there yet."""
        ...

    def send_nowait(self, parts: list[bytes | memoryview]) -> int:
        """Bytes taken from the parts in order; 0 if none can be taken now."""
        ...

    def fileno(self) -> int:
        """The descriptor that is readable, or writable, when one of the above can go on."""
        ...

    def shut(self) -> None:
        """End the stream in both directions, at once; its descriptor is ready from then on."""
        ...

    def close(self) -> None: ...


_RECEIVING: Final = socket.MSG_DONTWAIT
_SENDING: Final = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
"""Said with each call, so that a short-lived connection is spared one that makes its socket non-blocking."""


class SocketByteStream:
    """A ``ByteStream`` over a stream socket, which it owns and closes."""

    __slots__ = ("_socket",)

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def receive_nowait(self, target: memoryview) -> int | None:
        try:
            return self._socket.recv_into(target, 0, _RECEIVING)
        except BlockingIOError:
            return None
        except OSError:
            raise PeerGoneError from None

    def send_nowait(self, parts: list[bytes | memoryview]) -> int:
        try:
            if len(parts) == 1:
                return self._socket.send(parts[0], _SENDING)
            return self._socket.sendmsg(parts, (), _SENDING)
        except BlockingIOError:
            return 0
        except OSError:
            raise PeerGoneError from None

    def fileno(self) -> int:
        return self._socket.fileno()

    def shut(self) -> None:
        with suppress(OSError):  # the peer was faster
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._socket.close()
