"""Writing a file whole or not at all.

- What is written stands in a file of its own beside the target until it is whole and on the disk; then it
  takes the target's name. A reader sees the old file or the new one, and a failure leaves the old.
- Nothing but a regular file is replaced: ``/dev/stdout`` would cease to be a device, and of a symbolic link
  it is not plain which file is meant.
- The new file has the mode asked for, whatever the old one had, and nobody else's hard links lead to it.
"""

from __future__ import annotations

import os
import secrets
import stat

from keyholt.cli.descriptors import write_all
from keyholt.cli.errors import UsageError

__all__ = ["write_whole"]


def write_whole(file: str, data: bytes | bytearray, mode: int) -> None:
    """Write ``data`` as the file's only content.

    Args:
        file: what to write or replace.
        data: all of it.
        mode: the new file's permissions; those that the umask takes away are not given.

    Raises:
        UsageError: there is something at ``file`` that is no regular file.
        OSError: it cannot be written; what was there is unchanged.
    """
    _check_target(file)
    folder = os.path.dirname(file) or "."
    # A name of its own length: the target's may be as long as the file system allows.
    partial = os.path.join(folder, f".keyholt-{secrets.token_hex(8)}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        try:
            write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(partial, file)  # never follows a link that has been put there meanwhile
    except BaseException:
        os.unlink(partial)
        raise
    _sync(folder)


def _check_target(file: str) -> None:
    try:
        kind = os.lstat(file).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISLNK(kind):
        raise UsageError(f"{file} is a symbolic link; name the file that it leads to, or remove it")
    if not stat.S_ISREG(kind):
        raise UsageError(f"{file} is no regular file and would be replaced by one; name another")


def _sync(folder: str) -> None:
    """Make the new name durable, where the folder may be opened; the file is whole in either case."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
