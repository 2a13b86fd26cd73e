"""Requests on connections that last, in a closed loop: each connection has one in flight, and sends the next
when the answer has come.
"""

from __future__ import annotations

import itertools
import random
import select
import socket
from collections.abc import Iterator, Sequence
from time import perf_counter_ns
from typing import Final

from bench.exchanges import EXCHANGES, GREETING, Exchange, echo_of, frame_size
from bench.jobs import STALL, Job, LoadError, Measured, Tally

__all__ = ["RECEIVE_SIZE", "check", "greet", "perform", "prepared"]

RECEIVE_SIZE: Final = 64 * 1024

_SEED: Final = 20_240
_DRAWN: Final = 1 << 18
"""Random numbers drawn ahead; then they repeat."""


class _Peer:
    """One connection and the exchange in flight on it."""

    __slots__ = ("exchange", "received", "sent_at", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.exchange: Exchange | None = None
        self.received = b""
        self.sent_at = 0

    def send(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.sent_at = perf_counter_ns()
        self.sock.send(exchange.request)

    def answered(self) -> int:
        """Receive; the answer's size in bytes once it is whole, 0 before.

        Raises:
            LoadError: it is a wrong one.
        """
        data = self.sock.recv(RECEIVE_SIZE)
        if self.received:
            data = self.received + data
        size = frame_size(data)
        if len(data) < size and len(data) > len(self.received):
            self.received = data
            return 0
        check(self.exchange, data, size)
        self.received = b""
        return size


def perform(job: Job) -> Measured:
    """Do a job.

    Raises:
        LoadError: an answer is wrong or missing.
    """
    exchanges = prepared(job)
    peers: list[_Peer] = []
    greeting_size = 0
    try:
        for _ in range(job.connections):
            sock = socket.socket(socket.AF_UNIX)
            peers.append(_Peer(sock))
            sock.settimeout(STALL)
            sock.connect(job.place)
            if job.kind != "echo":
                greeting_size = greet(sock)
            sock.settimeout(None)  # with a time-out every call would be two: the wait is epoll's
        tally = Tally(job, greeting_size=greeting_size)
        _drive(tally, peers, exchanges)
        return tally.result()
    finally:
        for peer in peers:
            peer.sock.close()


def greet(sock: socket.socket) -> int:
    """Greet the agent; gives the size of its answer."""
    sock.sendall(GREETING.request)
    answer = sock.recv(RECEIVE_SIZE)
    check(GREETING, answer, frame_size(answer))
    return len(answer)


def check(exchange: Exchange | None, data: bytes, size: int) -> None:
    """Hold what was received against what must come.

    Raises:
        LoadError: it is something else, or more, or nothing was asked.
    """
    if exchange is None or not data:
        raise LoadError("the server closed a connection, or answered what was not asked")
    if len(data) != size or not exchange.answered_by(data):
        raise LoadError(f"a wrong answer of {len(data)} bytes: {data[8:200]!r}")


def prepared(job: Job) -> Iterator[Exchange]:
    """The exchanges of a job, in its order."""
    if job.kind == "echo":
        return itertools.repeat(echo_of(job.answer_size))
    make = EXCHANGES[job.kind if job.kind in EXCHANGES else "get"]
    exchanges = [make(number) for number in range(job.first, job.first + job.count)]
    if job.order == "once":
        return iter(exchanges)
    return itertools.cycle(random.Random(_SEED).choices(exchanges, k=_DRAWN))


def _drive(tally: Tally, peers: Sequence[_Peer], exchanges: Iterator[Exchange]) -> None:
    by_descriptor = {peer.sock.fileno(): peer for peer in peers}
    with select.epoll() as epoll:
        for descriptor in by_descriptor:
            epoll.register(descriptor, select.EPOLLIN)
        for peer, exchange in zip(peers, exchanges, strict=False):
            peer.send(exchange)
        open_ = sum(peer.exchange is not None for peer in peers)
        while open_:
            events = epoll.poll(STALL)
            if not events:
                raise LoadError(f"no answer for {STALL:.0f} seconds")
            for descriptor, _ in events:
                peer = by_descriptor[descriptor]
                if not (size := peer.answered()):
                    continue
                now = perf_counter_ns()
                tally.answer_size = size
                tally.answered(peer.sent_at, now)
                following = next(exchanges, None) if now < tally.until else None
                if following is None:
                    peer.exchange = None
                    open_ -= 1
                else:
                    peer.send(following)
