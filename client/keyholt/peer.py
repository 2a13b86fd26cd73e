"""Who serves at the other end of a socket, and whether it may: asked before a byte is sent there.

A client gives its server passphrases and values, and whoever holds the socket's path could be that server: in
a directory that others write to, below one that another user owns, in the ``XDG_RUNTIME_DIR`` of the user
from whom somebody came by ``su``. So the kernel is asked who it is (``SO_PEERCRED``, unix(7)).

- Trusted are root; the client's own effective uid; at exactly ``/run/keyholt/agent.sock`` the owner of
  ``/run/keyholt``, where root alone can have given that directory away; or, where the address says a uid,
  that one and no other.
- The uid is that of the process that called listen(2), and so a service manager's where that passed the
  socket on; of a connection that was handed out, the agent's.
- In a user namespace every uid that it has no number for reads as 65534, the one like the other. That is
  nobody's uid then, not even the client's own, and such a server is trusted only where the address asks for
  it. A uid of 0 is the namespace's root.
- `keyholt get` goes through here: nothing is imported but built-in modules, until somebody is refused.
"""

from __future__ import annotations

import posix
import sys

from keyholt.address import SYSTEM_SOCKET, Address

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from typing import Final

__all__ = ["UNMAPPED", "has_number", "read_server", "require_trusted"]

_SOL_SOCKET: Final = 1
_SO_PEERCRED: Final = 17
_UCRED_SIZE: Final = 12
"""Bytes of ``struct ucred``: pid, uid and gid, a C int each."""

ROOT: Final = 0
UNMAPPED: Final = 65534
"""What the kernel tells of a uid that the reader's user namespace has no number for
(/proc/sys/kernel/overflowuid). Outside of such namespaces it is the user nobody."""

SYSTEM_DIRECTORY: Final = SYSTEM_SOCKET.rpartition("/")[0]
OTHERS_WRITE: Final = 0o022
FILE_TYPE: Final = 0o170000
DIRECTORY: Final = 0o040000
"""Bits of a file's mode, as in ``stat``."""


def read_server(sock: _socket.socket) -> tuple[int, int]:
    """The pid and the uid of the server that a connected socket leads to.

    Raises:
        OSError: the socket is none that has them.
    """
    credentials = sock.getsockopt(_SOL_SOCKET, _SO_PEERCRED, _UCRED_SIZE)
    return int.from_bytes(credentials[:4], sys.byteorder), int.from_bytes(credentials[4:8], sys.byteorder)


def require_trusted(sock: _socket.socket, address: Address) -> int:
    """The uid of the server that ``sock`` leads to, if it is one that may serve at ``address``.

    Raises:
        AgentUntrustedError: it may not; send it nothing. Says who it is, who was expected, what to do.
        OSError: the kernel does not tell who it is.
    """
    _, uid = read_server(sock)
    if address.uid is not None:
        trusted = uid == address.uid
    else:
        trusted = uid == ROOT or (uid in (posix.geteuid(), _system_owner(address)) and has_number(uid))
    if not trusted:
        from keyholt_protocol.errors import AgentUntrustedError

        raise AgentUntrustedError(_untrusted(uid, address))
    return uid


def _system_owner(address: Address) -> int | None:
    """Who owns the directory of the system's socket, if that is the address and root gave it to them."""
    if address.kind != "unix" or address.path != SYSTEM_SOCKET:
        return None
    try:
        *above, own = (posix.lstat(path) for path in ("/", "/run", SYSTEM_DIRECTORY))
    except OSError:
        return None
    by_root = all(one.st_uid == ROOT and not one.st_mode & OTHERS_WRITE for one in above)
    directories = all(one.st_mode & FILE_TYPE == DIRECTORY for one in (*above, own))
    return own.st_uid if by_root and directories else None


def has_number(uid: int) -> bool:
    """Whether this uid stands for one user; false for the number that stands for all without one."""
    if uid != UNMAPPED:
        return True
    try:
        with open(
            "/proc/self/uid_map", encoding="ascii"
        ) as file:  # user_namespaces(7): first, outside, count
            ranges = [line.split() for line in file]
    except OSError:  # without /proc nobody can tell
        return False
    return any(int(first) <= uid < int(first) + int(count) for first, _, count in ranges)


def _untrusted(uid: int, address: Address) -> str:
    if address.uid is not None:
        return (
            f"the server at {address} runs as uid {uid}, not as the uid that the address asks for, and was "
            "sent nothing; find out whose it is, or correct the address"
        )
    import os

    own = os.geteuid()
    expected = "root" if own == ROOT else f"root or uid {own}"
    named = Address(address.kind, path=address.path, descriptor=address.descriptor, uid=uid)
    who = f"uid {uid}" if has_number(uid) else f"a uid that this user namespace has no number for ({uid})"
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    usual = runtime is not None and address.path == f"{runtime}/keyholt/agent.sock"
    unset = "after `su`, unset XDG_RUNTIME_DIR, which names another user's directory; " if usual else ""
    return (
        f"the server at {address} runs as {who}, not as {expected}, and was sent nothing; {unset}if that "
        f"user runs your agent, write the address as {named}"
    )
