"""Taking connections from an inherited descriptor: what the address ``fd:N`` means.

The descriptor is a SEQPACKET socket, connected to the agent by whoever started this program. For each message
sent on it the agent sends one back that carries a connection (SCM_RIGHTS, unix(7)). So the agent is reached
from where no socket may be opened, and any number of programs may hold the same descriptor.

- The descriptor is not ours alone: its blocking mode, which all holders share, is left as it is, and nothing
  here waits or closes it. Each call says for itself that it does not want to wait.
- Which of several holders gets which connection does not matter: all are alike, and each took as many as it
  asked for. One that asked and died before it took leaves a connection behind for the next, by then perhaps
  closed by the agent: ``has_ended`` tells.
- `keyholt get` goes through here: nothing is imported but built-in modules.
"""

from __future__ import annotations

import _socket
import errno
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ["HandOut", "HandOutError", "has_ended"]

_ASKING: Final = b"\0"
"""What a message holds does not matter; it has to hold something."""

_RIGHTS_SIZE: Final = 4
"""Bytes of a descriptor in a message, a C int."""


class HandOutError(Exception):
    """No connection can be taken from the descriptor; the message says why, and what to do."""


class HandOut:
    """A duplicate of the inherited descriptor, for one connection to be taken.

    Each connection takes a duplicate of its own, so that several tasks of one program may wait at once.

    Attributes:
        sock: the duplicate; who is at its other end is for the caller to ask, before anything is asked for.

    Raises:
        HandOutError: there is no such descriptor, or it is something else.
        OSError: no duplicate can be had: this program has too many files open.
    """

    __slots__ = ("_number", "sock")

    def __init__(self, number: int) -> None:
        self._number = number
        try:
            duplicate = os.dup(number)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
            raise HandOutError(
                f"the descriptor {number} is not open in this program; whoever starts it must let it inherit "
                "one, as `keyholt run --share-agent` does"
            ) from None
        try:
            self.sock = _socket.socket(fileno=duplicate)
        except OSError:  # it is no socket at all
            os.close(duplicate)
            raise self._other() from None
        if (self.sock.family, self.sock.type) != (_socket.AF_UNIX, _socket.SOCK_SEQPACKET):
            self.close()
            raise self._other()
        try:
            self.sock.getpeername()
        except OSError:  # it is not connected, and never was
            self.close()
            raise self._other() from None

    def fileno(self) -> int:
        """The duplicate, to wait for."""
        return self.sock.fileno()

    def ask(self) -> bool:
        """Ask for a connection; false if that cannot be done yet: wait until it is writable.

        Raises:
            HandOutError: nobody is at the other end.
        """
        try:
            self.sock.send(_ASKING, _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL)
            return True
        except BlockingIOError:
            return False
        except OSError as error:
            raise self._gone(error) from None

    def take(self) -> _socket.socket | None:
        """A connection, the caller's from then on; ``None`` if there is none yet: wait until it is readable.

        Raises:
            HandOutError: nobody is at the other end, or what it sends is no connection.
        """
        try:
            data, ancillary, flags, _ = self.sock.recvmsg(
                1, _socket.CMSG_LEN(_RIGHTS_SIZE), _socket.MSG_DONTWAIT | _socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return None
        except OSError as error:
            raise self._gone(error) from None
        received = _descriptors(ancillary)
        whole = not flags & _socket.MSG_CTRUNC
        if data and whole and len(received) == 1 and (connection := _connection(received[0])) is not None:
            return connection
        for descriptor in received:
            os.close(descriptor)
        if not data:
            raise self._gone(None)
        if received and whole:
            raise self._other()
        raise HandOutError(
            f"the descriptor {self._number} gave a message without a connection; this program has too many "
            "files open, or another that holds it has changed what comes with a message"
        )

    def close(self) -> None:
        """Close the duplicate; the inherited descriptor stays open."""
        self.sock.close()

    def _gone(self, error: OSError | None) -> HandOutError:
        if error is not None and error.errno == errno.ENOTCONN:  # and never was
            return self._other()
        return HandOutError(
            f"the agent at the other end of the descriptor {self._number} has gone; start it again, and then "
            "what was started with this descriptor"
        )

    def _other(self) -> HandOutError:
        return HandOutError(
            f"the descriptor {self._number} is no SEQPACKET socket connected to an agent; pass on one that "
            "is, as `keyholt run --share-agent` does"
        )


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    """The descriptors that came with a message, each now one of this program's.

    What else can come with one is no descriptor, whatever number it begins with. Where a holder of the socket
    has set SO_PASSCRED, which counts for all holders, it is the sender's pid: taken for a descriptor it
    would be one that this program has open for something else.
    """
    return [
        int.from_bytes(data[at : at + _RIGHTS_SIZE], sys.byteorder)
        for level, kind, data in ancillary
        if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS)
        for at in range(0, len(data) - len(data) % _RIGHTS_SIZE, _RIGHTS_SIZE)
    ]


def _connection(descriptor: int) -> _socket.socket | None:
    """The Unix stream socket that a descriptor is, which then belongs to it; ``None`` if it is none."""
    try:
        sock = _socket.socket(fileno=descriptor)
    except OSError:
        return None
    if (sock.family, sock.type) == (_socket.AF_UNIX, _socket.SOCK_STREAM):
        return sock
    sock.detach()
    return None


def has_ended(connection: _socket.socket) -> bool:
    """Whether a connection that was just taken is over: closed, or about to be, with a last word to read."""
    try:
        connection.recv(1, _socket.MSG_PEEK | _socket.MSG_DONTWAIT)
        return True
    except BlockingIOError:
        return False
    except OSError:
        return True
