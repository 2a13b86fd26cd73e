"""Where connections come from: a listening socket, a descriptor that was handed on, later an end of TLS.

An endpoint knows who is at the other end of what it yields, and yields only what is to be served. What is
behind it, sessions and pipeline, knows the principal alone.
"""

from __future__ import annotations

from typing import Protocol

from keyholt_agent.principal import Principal
from keyholt_agent.transport.stream import ByteStream, PeerGoneError
from keyholt_protocol.errors import KeyholtError
from keyholt_protocol.server_connection import ServerConnection

__all__ = ["Endpoint", "refuse"]


class Endpoint(Protocol):
    """A source of connections; whoever made it closes it."""

    def fileno(self) -> int:
        """The descriptor that is readable when ``accept_nowait`` has something to do."""
        ...

    def accept_nowait(self) -> tuple[ByteStream, Principal] | None:
        """The next connection, the caller's to close, and who is at its other end.

        ``None``: there is none just now, or the one that came was not to be served.

        Raises:
            OSError: none can be accepted now, for example for want of descriptors; try again after a while.
        """
        ...

    async def tend(self) -> None:
        """See to what comes about without a descriptor's being ready, until cancelled or for good."""
        ...

    def close(self) -> None:
        """Let go of what is the endpoint's own."""
        ...


def refuse(stream: ByteStream, error: KeyholtError) -> None:
    """Say why a connection is not served, and close it; a new one's socket has room for that."""
    try:
        stream.send_nowait([ServerConnection().send_error(0, error)])
    except PeerGoneError:
        pass  # it has left before it could be told
    finally:
        stream.close()
