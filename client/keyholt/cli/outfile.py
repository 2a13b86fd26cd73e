"""Writing a file whole or not at all.

- What is written stands in a file of its own beside the target until it is whole and on the disk; then it
  takes the target's name. A reader sees the old file or the new one, and a failure leaves the old.
- It is made before the work for what goes into it is begun: a place that cannot be written is found out
  first, and every error names the file that was asked for.
- Nothing but a regular file is replaced: ``/dev/stdout`` would cease to be a device, and of a symbolic link
  it is not plain which file is meant.
- The new file has the mode asked for, whatever the old one had, and nobody else's hard links lead to it.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable, Generator
from contextlib import contextmanager

from keyholt.cli.descriptors import STANDARD, STDOUT, write_all
from keyholt.cli.errors import UsageError

__all__ = ["whole_file"]

Write = Callable[[bytes | bytearray], None]


@contextmanager
def whole_file(file: str | None, mode: int) -> Generator[Write]:
    """Lend a function that writes the file's content. The file takes its name when the ``with`` is left.

    Args:
        file: what to write or replace; ``None`` and ``-`` are standard output.
        mode: the new file's permissions; those that the umask takes away are not given.

    Raises:
        UsageError: there is something at ``file`` that is no regular file.
        OSError: it cannot be written; what was there is unchanged.
    """
    if file is None or file == STANDARD:
        yield lambda data: write_all(STDOUT, data)
        return
    _check_target(file)
    folder = os.path.dirname(file) or "."
    # A name of its own length: the target's may be as long as the file system allows.
    partial = os.path.join(folder, f".keyholt-{secrets.token_hex(8)}.partial")
    with _named(file):
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(partial, flags, mode)
    try:
        try:

            def write(data: bytes | bytearray) -> None:
                with _named(file):
                    write_all(descriptor, data)

            yield write
            with _named(file):
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        with _named(file):
            os.replace(partial, file)  # never follows a link that has been put there meanwhile
    except BaseException:
        os.unlink(partial)
        raise
    _sync(folder)


@contextmanager
def _named(file: str) -> Generator[None]:
    """Say of an error which file was asked for, and not in which other one it is being made."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, file) from None


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
