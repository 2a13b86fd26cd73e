"""A folder in memory that one program has at its path and no other, and that is gone with it.

- It is a tmpfs in a mount namespace of the program's own: at its path others, of the same user too, find
  nothing. This process has it by a descriptor, through which it writes and reads the files.
- No other user gets into it. A process of the same user does while the program runs, by ``/proc/PID/cwd`` and
  ``/proc/PID/root``: the kernel lets it, as it lets it trace the program (proc(5), ptrace(2)).
- The kernel lets go of it with the last process in there and that descriptor, however they end: nothing is
  cleaned up, for nothing is left (mount_namespaces(7), user_namespaces(7)).
- Whoever may not make a mount namespace makes a user namespace first, with their own uid and gid in it alone.
- The program is the process that made the namespace; what it had of this one's memory is gone when it is
  executed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from typing import Final, NoReturn

from keyholt.cli.errors import NamespaceError

__all__ = ["PrivateFolder", "choose_place"]

PLACES: Final = ("/mnt", "/media", "/srv", "/tmp")  # noqa: S108  # nothing is written there
"""Where the folder may be mounted: the first that is empty, so that nothing is hidden from the program."""

SIZE: Final = 128 * 1024 * 1024
"""Bytes: several copies of the largest value, as editors make them."""

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC, MS_PRIVATE = 2, 4, 8, 1 << 14, 1 << 18
PR_SET_DUMPABLE: Final = 4

OPTIONS: Final = f"mode=0700,size={SIZE}"
READY, GO = b"ready", b"go"
_MESSAGE: Final = 4096

REMEDY: Final = (
    "allow it (sysctl user.max_user_namespaces, user.max_mnt_namespaces, kernel.unprivileged_userns_clone or "
    "kernel.apparmor_restrict_unprivileged_userns=0; in a container, its seccomp profile), or use "
    "`keyholt get` and `keyholt put`"
)


class PrivateFolder:
    """The folder, and the process that will become the program. Used in a ``with``.

    Args:
        path: where the program finds it (``choose_place``).
        command: the program and its arguments.
        variables: its environment.

    Raises:
        NamespaceError: the kernel does not let us have one; says what to allow.
    """

    def __init__(self, path: str, command: Sequence[str], variables: Mapping[str, str]) -> None:
        self._path, self._command, self._variables = path, list(command), dict(variables)
        self._libc = ctypes.CDLL(None, use_errno=True)  # loaded here: the child has no time to lose
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._pid = os.fork()
        if self._pid == 0:
            self._ours.close()
            self._become(theirs)
        theirs.close()
        answer, descriptors, _, _ = socket.recv_fds(self._ours, _MESSAGE, 1, socket.MSG_CMSG_CLOEXEC)
        if answer != READY:
            self._end()
            raise NamespaceError(
                f"the text cannot be kept from other programs: {answer.decode() or 'no answer'}; {REMEDY}"
            )
        (self._folder,) = descriptors

    def __enter__(self) -> PrivateFolder:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._folder)
        self._end()

    def write(self, name: str, data: bytes | bytearray | memoryview) -> None:
        """Make a file, with the user's access only."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(name, flags, 0o600, dir_fd=self._folder)
        with open(descriptor, "wb", buffering=0) as file:
            rest = memoryview(data)
            while rest:
                rest = rest[file.write(rest) :]

    def open(self, name: str) -> int:
        """A descriptor of a file, to read; the caller's to close.

        Raises:
            OSError: it is not there, or is a link.
        """
        return os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=self._folder)

    def run(self) -> int:
        """Have the program run in the folder, on this terminal, until it ends.

        Returns:
            Its exit status; 128 and the signal's number where it was killed.

        Raises:
            OSError: it cannot be executed.
        """
        handlers = {number: signal.signal(number, signal.SIG_IGN) for number in _THEIRS}
        try:
            self._ours.send(GO)
            failed = self._ours.recv(_MESSAGE)  # nothing: it was executed, which closed its end
            status = self._wait()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        if failed:
            raise OSError(int(failed), os.strerror(int(failed)), self._command[0])
        return status

    def _wait(self) -> int:
        while True:
            _, status = os.waitpid(self._pid, os.WUNTRACED)
            if os.WIFSTOPPED(status):
                os.kill(os.getpid(), signal.SIGSTOP)  # the shell waits for us; it continues both
                continue
            self._pid = 0
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code

    def _end(self) -> None:
        self._ours.close()
        if self._pid:
            os.waitpid(self._pid, 0)  # it ends by itself when this end is closed
            self._pid = 0

    def _become(self, theirs: socket.socket) -> NoReturn:
        """In the child: make the folder, hand it over, wait for the word, and be the program."""
        try:
            try:
                descriptor = self._make()
            except OSError as error:
                name = errno.errorcode.get(error.errno or 0, "an error")
                theirs.send(f"{error.strerror} is refused here ({name})".encode())
                os._exit(1)
            socket.send_fds(theirs, [READY], [descriptor])
            if theirs.recv(_MESSAGE) == GO:
                self._execute(theirs)
        finally:
            os._exit(1)

    def _make(self) -> int:
        """Mount the folder in a mount namespace of our own.

        Raises:
            OSError: the kernel refuses; ``strerror`` is what.
        """
        uid, gid = os.geteuid(), os.getegid()
        if self._libc.unshare(CLONE_NEWNS) != 0:
            _check(self._libc.unshare(CLONE_NEWUSER | CLONE_NEWNS), "a user namespace")
            # A process that is closed to others may not write to its own entry in /proc either. So it is open
            # for as long as that takes, in which a process of the same user could look into it.
            self._libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
            try:
                _write("/proc/self/setgroups", "deny")
                _write("/proc/self/uid_map", f"{uid} {uid} 1")
                _write("/proc/self/gid_map", f"{gid} {gid} 1")
            except OSError as error:
                raise OSError(error.errno, "a user namespace with your uid") from None
            finally:
                self._libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
        _check(self._mount("none", "/", None, MS_REC | MS_PRIVATE, None), "a mount namespace of one's own")
        flags = MS_NOSUID | MS_NODEV | MS_NOEXEC
        # Kept from the swap where that is granted: to the system's root, since Linux 6.4 (tmpfs(5)).
        if self._mount("none", self._path, "tmpfs", flags, f"noswap,{OPTIONS}") != 0:
            _check(self._mount("none", self._path, "tmpfs", flags, OPTIONS), "a file system in memory")
        return os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def _mount(self, source: str, target: str, kind: str | None, flags: int, options: str | None) -> int:
        texts = [text if text is None else text.encode() for text in (source, target, kind, options)]
        result: int = self._libc.mount(*texts[:3], ctypes.c_ulong(flags), texts[3])
        return result

    def _execute(self, theirs: socket.socket) -> None:
        for number in (
            signal.SIGPIPE,
            signal.SIGXFSZ,
        ):  # Python ignores them; the program expects the default
            signal.signal(number, signal.SIG_DFL)
        try:
            os.chdir(self._path)
            os.execvpe(self._command[0], self._command, self._variables)
        except OSError as error:
            theirs.send(str(error.errno or errno.EINVAL).encode())


_THEIRS: Final = (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP)
"""Keys that are meant for the program while it has the terminal."""


def choose_place() -> str:
    """Where a folder is to be mounted."""
    for place in PLACES:
        try:
            if not os.listdir(place):
                return place
        except OSError:
            continue
    return PLACES[-1]


def _check(result: int, what: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), what)


def _write(file: str, text: str) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
