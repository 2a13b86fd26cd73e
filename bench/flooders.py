"""Clients that mean harm: ``python -m bench.flooders SOCKET COUNT KIND`` sends on so many connections without
waiting for answers, which it takes; it says "ready" on stdout, and goes on until its stdin ends.

====== =========================================================================================
kind   what it sends
====== =========================================================================================
frames the header that takes longest to be refused, of those that are allowed: as many values as
       there may be, a key twice, and the id as far behind as it is still looked for
least  the shortest request there is, refused as well
pages  requests for pages of 200 entries, answered
values fetches of a value of 1 MiB, answered
====== =========================================================================================
"""

from __future__ import annotations

import os
import select
import socket
import struct
import sys
from contextlib import suppress
from typing import Final

import msgpack
from bench.jobs import STALL
from bench.lasting import greet

from keyholt_protocol.limits import MAX_BEFORE_ID, MAX_IN_FLIGHT

__all__ = ["LARGE_PATH", "LARGE_VALUE"]

LARGE_PATH: Final = "bench/large"
LARGE_VALUE: Final = 1024 * 1024
"""Bytes: of the values that are cached, a large one."""


def _frame(header: bytes) -> bytes:
    return struct.pack(">II", len(header), 0) + header


def _request(number: int, operation: str, arguments: dict[str, object]) -> bytes:
    return _frame(msgpack.packb({"id": number, "op": operation, "args": arguments}))


def _frames(kind: str) -> bytes:
    """What a connection sends over and over; of those that are answered no two in flight have one id."""
    many = MAX_BEFORE_ID - 4
    if kind == "frames":
        header = b"\x83\xa1z\xdc" + struct.pack(">H", many) + b"\x01" * many + b"\xa1z\x01\xa2id\x07"
        return _frame(header) * 50
    if kind == "least":
        return _request(7, "", {}) * 200
    numbers = range(10, 10 + MAX_IN_FLIGHT // 2)
    if kind == "pages":
        return b"".join(_request(number, "secret.list", {"limit": 200}) for number in numbers)
    return b"".join(_request(number, "secret.get", {"path": LARGE_PATH}) for number in numbers)


class _Flooder:
    """One connection. Where its requests are answered, it sends a batch when it has all of the last."""

    def __init__(self, path: str, kind: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(STALL)
        self.sock.connect(path)
        greet(self.sock)
        self.sock.setblocking(False)
        self._answered = kind in {"pages", "values"}
        self._batch = _frames(kind)
        self._rest = memoryview(self._batch)
        self._missing = 0  # bytes of the answer under way
        self._head = b""
        self._answers = 0

    def send(self) -> None:
        with suppress(BlockingIOError):
            while True:
                if not self._rest:
                    if self._answered:
                        return
                    self._rest = memoryview(self._batch)
                self._rest = self._rest[self.sock.send(self._rest) :]

    def receive(self) -> None:
        with suppress(BlockingIOError):
            while data := self.sock.recv(1 << 20):
                if self._answered:
                    self._count(data)

    def _count(self, data: bytes) -> None:
        while data:
            if self._missing:
                taken = min(self._missing, len(data))
                self._missing -= taken
                data = data[taken:]
                if not self._missing:
                    self._answers += 1
                continue
            need = 8 - len(self._head)
            self._head, data = self._head + data[:need], data[need:]
            if len(self._head) == 8:
                self._missing = sum(struct.unpack(">II", self._head))
                self._head = b""
        if self._answers == MAX_IN_FLIGHT // 2:
            self._answers = 0
            self._rest = memoryview(self._batch)


def main() -> None:
    """Flood."""
    path, count, kind, *core = sys.argv[1:]
    if core:
        os.sched_setaffinity(0, {int(core[0])})
    with select.epoll() as epoll:
        flooders: dict[int, _Flooder] = {}
        for _ in range(int(count)):
            one = _Flooder(path, kind)
            flooders[one.sock.fileno()] = one
            epoll.register(one.sock.fileno(), select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
        epoll.register(sys.stdin.fileno(), select.EPOLLIN)
        print("ready", flush=True)
        while True:
            for fd, _ in epoll.poll():
                if fd == sys.stdin.fileno():
                    return
                flooders[fd].receive()
                flooders[fd].send()


if __name__ == "__main__":
    with suppress(ConnectionError):  # the agent has ended
        main()
