"""A server of another user, in its own process: takes connections one by one, and all that they send."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.support.users import need_other_uids

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["STRANGER", "OtherServer", "other_server", "reachable"]

STRANGER: Final = 4711
"""The uid of a user who is neither root nor anybody else here."""

_END: Final = b"\0that was all"

_SERVE: Final = """
import os, socket, sys
uid, path, kind = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
os.setgroups([]); os.setresgid(uid, uid, uid); os.setresuid(uid, uid, uid)
listener = socket.socket(socket.AF_UNIX, kind)
listener.bind(path)
os.chmod(path, 0o777)
listener.listen()
os.write(1, b"r")
while True:
    connection, _ = listener.accept()
    while data := connection.recv(65536):
        os.write(1, data)
    connection.close()
"""


@dataclass(frozen=True)
class OtherServer:
    """What listens at ``path``."""

    path: str
    _kind: socket.SocketKind
    _process: subprocess.Popen[bytes]

    def received(self) -> bytes:
        """All bytes of the connections that are over by now."""
        assert self._process.stdout is not None
        with socket.socket(socket.AF_UNIX, self._kind) as last:  # it is served when all before it are over
            last.connect(self.path)
            last.sendall(_END)
        data = b""
        while not data.endswith(_END):
            data += os.read(self._process.stdout.fileno(), 65536)
        return data.removesuffix(_END)


@contextmanager
def other_server(
    path: Path | str, uid: int = STRANGER, kind: socket.SocketKind = socket.SOCK_STREAM
) -> Iterator[OtherServer]:
    """A server that runs as ``uid``, which has to be able to write to the socket's directory."""
    need_other_uids()
    command = [sys.executable, "-c", _SERVE, str(uid), str(path), str(int(kind))]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert os.read(process.stdout.fileno(), 1) == b"r"
            yield OtherServer(str(path), kind, process)
        finally:
            process.kill()


def reachable(folder: Path) -> Path:
    """The folder, with a way to it for every user."""
    for one in (folder, *folder.parents):
        if one.stat().st_mode & 0o011 != 0o011:
            one.chmod(one.stat().st_mode | 0o011)
    return folder
