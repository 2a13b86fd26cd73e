"""Whose the files and directories are that the agent believes: root's or its own, and no other's to write to.

Whoever can write to a directory can put something else in the place of what lies in it, and so can whoever
owns it. So a path is as good as the worst directory on the way. All of them are looked at, with links
resolved as the kernel resolves them, so that a link's own directory counts as well.

- A directory on the way is root's or the agent's own uid's, and nobody else, no group either, may write to
  it; or it is root's and sticky, as /tmp is, where nobody can move what is another's. A link has such an
  owner too.
- The directory that files are kept in has no such exception, nor have the files.
- What is read is looked at by its descriptor. Nobody else can change the way, nor its end, between the look
  and the opening: that is what was looked at.
- In a user namespace, owners that it has no number for all read as one (65534), the root outside among them.
  On the way such an owner counts as root, for nobody can do without the directories at the top; at its end
  not.
- A POSIX ACL that lets somebody write shows in the bits of the group (acl(5)), and is refused with them.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path, PurePosixPath
from typing import Final

__all__ = ["OwnershipError", "make_own_directory", "open_own_file", "require_own_file", "require_way"]

ROOT: Final = 0

WRITABLE_BY_OTHERS: Final = 0o022
OPEN_TO_OTHERS: Final = 0o077
"""Permission bits of the group and of everybody."""

MAX_LINKS: Final = 40
"""Links that the kernel follows in one path (path_resolution(7))."""


class OwnershipError(Exception):
    """Somebody else may change what the agent would believe; the message names it, and the remedy."""


def require_way(path: Path) -> Path:
    """The path with its links resolved, after a look at every directory on the way, its end included.

    Raises:
        OwnershipError: somebody else may change where it leads.
        FileNotFoundError: what there is of the way is good, and it ends before the path does.
        OSError: it cannot be followed.
    """
    here, links = "/", 0
    _require_on_the_way(here)
    ahead = _names(str(path.absolute()))
    while ahead:
        name = ahead.pop()
        if name == "..":
            here = os.path.dirname(here)
            continue
        there = os.path.join(here, name)
        status = os.lstat(there)
        if stat.S_ISLNK(status.st_mode):
            links += 1
            if links > MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fspath(path))
            _require_owner(there, status, above=True)
            target = os.readlink(there)
            here = "/" if target.startswith("/") else here
            ahead += _names(target)
        else:
            here = there
            if stat.S_ISDIR(status.st_mode):
                _require_on_the_way(here)
    return Path(here)


def make_own_directory(path: Path) -> None:
    """Have a directory in which nobody else can put, move or remove anything; what is missing is made, 0700.

    Raises:
        OwnershipError: somebody else can, there or in a directory above.
        OSError: it cannot be made.
    """
    try:
        require_way(path)
    except FileNotFoundError:
        for missing in reversed([one for one in (path, *path.parents) if not one.exists()]):
            missing.mkdir(mode=0o700, exist_ok=True)
    real = require_way(path)
    status = real.stat()
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), os.fspath(path))
    _require_owner(str(real), status)
    if status.st_mode & WRITABLE_BY_OTHERS:
        raise _writable(str(real), status)


def open_own_file(path: Path) -> int:
    """A descriptor to read a file, which the caller closes; nobody else can write it or put another there.

    Raises:
        OwnershipError: somebody else can, or it is no regular file.
        OSError: it cannot be opened.
    """
    # O_NONBLOCK: a FIFO of that name must not hang the agent.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    descriptor = os.open(require_way(path), flags)
    try:
        require_own_file(path, os.fstat(descriptor), WRITABLE_BY_OTHERS)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def require_own_file(path: Path, status: os.stat_result, closed: int = OPEN_TO_OTHERS) -> None:
    """Refuse what is not a regular file of root or of the agent, closed to others.

    Args:
        path: its name, for the message.
        status: of its descriptor, or of itself where nobody else can put another there.
        closed: the permission bits that must not be set.

    Raises:
        OwnershipError: it is not.
    """
    if not stat.S_ISREG(status.st_mode):
        raise OwnershipError(f"{path} is no regular file: put one there")
    _require_owner(str(path), status)
    if status.st_mode & closed & WRITABLE_BY_OTHERS:
        raise _writable(str(path), status)
    if status.st_mode & closed:
        mode = stat.S_IMODE(status.st_mode)
        raise OwnershipError(f"others may read {path} (mode {mode:04o}): chmod 600 {path}")


def _names(path: str) -> list[str]:
    """The names of a path, the first at the end."""
    return [name for name in reversed(PurePosixPath(path).parts) if name != "/"]


def _require_on_the_way(directory: str) -> None:
    status = os.stat(directory)
    _require_owner(directory, status, above=True)
    if status.st_mode & WRITABLE_BY_OTHERS:
        by_root = status.st_uid == ROOT or _has_no_number(status.st_uid)
        if not (by_root and status.st_mode & stat.S_ISVTX):
            raise _writable(directory, status)


def _require_owner(path: str, status: os.stat_result, *, above: bool = False) -> None:
    uid, own = status.st_uid, os.geteuid()
    if uid in {ROOT, own} or (above and _has_no_number(uid)):
        return
    whom = "root" if own == ROOT else f"root or uid {own}"
    raise OwnershipError(
        f"{path} belongs to uid {uid}, who could put something else in its place: chown it to {whom}, "
        "or choose another place"
    )


def _writable(path: str, status: os.stat_result) -> OwnershipError:
    mode = stat.S_IMODE(status.st_mode)
    # What is sticky is open to others on purpose, as /tmp is.
    remedy = f"use a directory below {path}" if mode & stat.S_ISVTX else f"chmod go-w {path}"
    return OwnershipError(f"others may write to {path} (mode {mode:04o}): {remedy}")


def _has_no_number(uid: int) -> bool:
    """Whether the kernel tells this uid of every user whom this user namespace has no number for."""
    if uid != int(Path("/proc/sys/kernel/overflowuid").read_text("ascii")):
        return False
    ranges = Path("/proc/self/uid_map").read_text("ascii").splitlines()  # user_namespaces(7)
    return not any(int(first) <= uid < int(first) + int(count) for first, _, count in map(str.split, ranges))
