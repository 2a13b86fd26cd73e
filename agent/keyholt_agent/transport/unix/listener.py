"""The Unix sockets: claimed safely, guarded by permissions, or taken over from a service manager.

- A live socket is never taken away: whoever serves a path holds a lock on ``PATH.lock`` as long as it does,
  and a socket that somebody answers at is left alone even without the lock.
- A stale socket, one that nobody answers at, is replaced. Anything at the path that is no socket is left
  alone.
- The directory is made with mode 0700 (0710 where a group is served). One that others may write to, there or
  above, is refused, for they could put a socket of their own in its place (``keyholt_agent.ownership``). A
  group that is served needs no more than to go through.
- Of a socket that was taken over there is no path here: its directories are the service manager's to look to.
"""

from __future__ import annotations

import errno
import fcntl
import grp
import os
import socket
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from socket import SOCK_SEQPACKET, SOCK_STREAM, SocketKind
from types import TracebackType
from typing import Final

from keyholt_agent.config import UnixListenSettings
from keyholt_agent.ownership import OwnershipError, make_own_directory

__all__ = ["ListenError", "UnixListener", "inherited_listeners", "resolve_group"]

BACKLOG: Final = 1024
"""Connections that the kernel keeps waiting until they are accepted; it caps this at net.core.somaxconn."""

MAX_SOCKET_PATH: Final = 107
"""Bytes: ``sun_path`` is 108 with its closing zero (unix(7))."""

FIRST_INHERITED_FD: Final = 3
"""SD_LISTEN_FDS_START, sd_listen_fds(3)."""


_KINDS: Final = frozenset({SOCK_STREAM, SOCK_SEQPACKET})
"""Of a stream socket come connections; over a sequential packet socket they are handed out (``handout``)."""


class ListenError(Exception):
    """The socket cannot be had; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class UnixListener:
    """A listening socket and, where it was bound here, the claim on its path. Closing it removes both."""

    socket: socket.socket
    path: Path | None
    lock_fd: int | None

    @classmethod
    def bind(cls, path: Path, settings: UnixListenSettings, kind: SocketKind = SOCK_STREAM) -> UnixListener:
        """Claim ``path`` and listen there, with a socket of that kind.

        Raises:
            ListenError: another agent serves it, something else is there, or the directory is not safe.
        """
        if len(os.fsencode(path)) > MAX_SOCKET_PATH:
            raise ListenError(
                f"the socket path {path} is longer than {MAX_SOCKET_PATH} bytes; choose a shorter one"
            )
        group = resolve_group(settings.group)
        try:
            _prepare_directory(path.parent, group)
            lock_fd = _claim(path)
        except OSError as error:
            raise ListenError(
                f"the socket {path} cannot be made: {error.strerror}; check its directory"
            ) from None
        try:
            _remove_stale(path)
            return cls(_listen(path, kind, int(settings.mode, 8), group), path, lock_fd)
        except OSError as error:
            os.close(lock_fd)
            raise ListenError(
                f"the socket {path} cannot be made: {error.strerror}; check its directory"
            ) from None
        except ListenError:
            os.close(lock_fd)
            raise

    def close(self) -> None:
        if self.path is not None:
            with suppress(OSError):  # where it is out of reach, the next start replaces it
                self.path.unlink()
        self.socket.close()
        if self.lock_fd is not None:
            os.close(self.lock_fd)

    def __enter__(self) -> UnixListener:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def inherited_listeners(environment: Mapping[str, str]) -> list[UnixListener]:
    """The listening Unix sockets, of either kind, that a service manager passed on (sd_listen_fds(3)); none
    if it passed none.

    Raises:
        ListenError: something passed on is not a listening Unix stream or SEQPACKET socket.
    """
    if environment.get("LISTEN_PID") != str(os.getpid()):
        return []
    try:
        count = int(environment.get("LISTEN_FDS", "0"))
    except ValueError:
        raise ListenError("LISTEN_FDS is not a number; start the agent through its socket unit") from None
    return [_adopt(FIRST_INHERITED_FD + index) for index in range(count)]


def resolve_group(group: str | None) -> int | None:
    """The number of a group given by name or number.

    Raises:
        ListenError: there is no such group.
    """
    if group is None:
        return None
    try:
        return grp.getgrgid(int(group)).gr_gid if group.isdigit() else grp.getgrnam(group).gr_gid
    except KeyError:
        raise ListenError(f"there is no group {group!r}; correct listen.unix.group") from None


def _adopt(fd: int) -> UnixListener:
    try:
        sock = socket.socket(fileno=fd)
    except OSError as error:
        raise ListenError(f"the inherited descriptor {fd} is not a socket: {error.strerror}") from None
    served = sock.family == socket.AF_UNIX and sock.type in _KINDS
    if not served or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.close()
        raise ListenError(
            f"the inherited descriptor {fd} is not a listening Unix socket, stream or sequential packet"
        )
    sock.set_inheritable(False)
    return UnixListener(sock, None, None)


def _prepare_directory(directory: Path, group: int | None) -> None:
    missing = not directory.exists()
    try:
        make_own_directory(directory)
    except OwnershipError as error:
        raise ListenError(f"the socket's directory cannot be used: {error}") from None
    if missing and group is not None:  # its members must come as far as the socket
        os.chown(directory, -1, group)
        directory.chmod(0o710)


def _claim(path: Path) -> int:
    """Take the lock that says who serves the path."""
    fd = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise _served(path) from None
    return fd


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ListenError(f"{path} exists and is not a socket; move it away or choose another path")
    if _answers(path):
        raise _served(path)
    path.unlink()


def _answers(path: Path) -> bool:
    """Whether a process listens at the socket, even one too busy to accept."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        return probe.connect_ex(os.fsencode(path)) not in {errno.ECONNREFUSED, errno.ENOENT}


def _listen(path: Path, kind: SocketKind, mode: int, group: int | None) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, kind)
    try:
        before = os.umask(0o177)  # nobody else may connect before the permissions are as configured
        try:
            sock.bind(os.fsencode(path))
        finally:
            os.umask(before)
        if group is not None:
            os.chown(path, -1, group, follow_symlinks=False)
        path.chmod(mode)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _served(path: Path) -> ListenError:
    return ListenError(f"another process serves {path}; stop it first, or choose another path with --socket")
