"""The load generator, a process of its own: ``python -m bench.load``, a job on stdin, its result on stdout.

- Closed loop: each connection has one request in flight, and sends the next when the answer has come.
- Requests are encoded before the clock starts, every answer is checked, and the same loop drives the agent
  and the echo server: what the generator costs is the same on both sides of a ratio.
- Answers that come before the warm-up has ended are checked and not counted.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import random
import select
import socket
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Final, Literal

from bench.exchanges import EXCHANGES, Exchange, hello_frame

__all__ = ["Job", "LoadError", "Measured", "Order"]

Order = Literal["random", "once"]

RECEIVE_SIZE: Final = 64 * 1024
STALL: Final = 30.0
"""Seconds without any answer after which the server is taken for dead."""

_SEED: Final = 20_240
_DRAWN: Final = 1 << 18
"""Random numbers drawn ahead; then they repeat."""

_NS: Final = 1_000_000_000


class LoadError(Exception):
    """An answer was wrong, or none came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to do.

    Attributes:
        socket: path of the server's socket.
        kind: ``echo``, ``get`` or ``put``.
        connections: open at once.
        first: number of the first secret.
        count: secrets, from ``first`` on.
        order: ``random``: uniformly drawn, until the time is over; ``once``: each once, or until the time is
        over. seconds: of measuring; 0 for as long as it takes.
        warmup: seconds before that.
        core: to run on; None for any.
    """

    socket: str
    kind: Literal["echo", "get", "put"]
    connections: int
    first: int = 0
    count: int
    order: Order = "random"
    seconds: float = 0
    warmup: float = 0
    core: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What came of it: answers in the measured ``seconds``; latencies in microseconds; answers in all."""

    answers: int
    seconds: float
    p50: float
    p99: float
    total: int

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answers / self.seconds


class _Peer:
    """One connection and the exchange in flight on it."""

    __slots__ = ("exchange", "received", "sent_at", "sock")

    def __init__(self, path: str, *, greets: bool) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(STALL)
        self.sock.connect(path)
        if greets:
            self.sock.sendall(hello_frame())
            self.sock.recv(RECEIVE_SIZE)
        self.exchange: Exchange | None = None
        self.received = b""
        self.sent_at = 0

    def send(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.sent_at = perf_counter_ns()
        self.sock.send(exchange.request)

    def answered(self) -> bool:
        """Receive, and say whether the answer is whole; a wrong one is ``LoadError``."""
        data = self.sock.recv(RECEIVE_SIZE)
        if self.received:
            data = self.received + data
        exchange = self.exchange
        if exchange is None or not data:
            raise LoadError("the server closed a connection, or answered what was not asked")
        if len(data) < exchange.size and data[:8] == exchange.begins[:8]:
            self.received = data
            return False
        if len(data) != exchange.size or not (
            data.startswith(exchange.begins) and data.endswith(exchange.ends)
        ):
            raise LoadError(f"a wrong answer of {len(data)} bytes: {data[8:200]!r}")
        self.received = b""
        return True


def perform(job: Job) -> Measured:
    """Do a job.

    Raises:
        LoadError: an answer is wrong or missing.
    """
    exchanges = [EXCHANGES[job.kind](number) for number in range(job.first, job.first + job.count)]
    peers = [_Peer(job.socket, greets=job.kind != "echo") for _ in range(job.connections)]
    try:
        return _drive(job, peers, _ordered(exchanges, job.order))
    finally:
        for peer in peers:
            peer.sock.close()


def _ordered(exchanges: Sequence[Exchange], order: Order) -> Iterator[Exchange]:
    if order == "once":
        return iter(exchanges)
    draw = random.Random(_SEED)
    return itertools.cycle(draw.choices(exchanges, k=_DRAWN))


def _drive(job: Job, peers: Sequence[_Peer], exchanges: Iterator[Exchange]) -> Measured:
    epoll = select.epoll()
    by_descriptor = {peer.sock.fileno(): peer for peer in peers}
    for descriptor in by_descriptor:
        epoll.register(descriptor, select.EPOLLIN)
    begun = perf_counter_ns()
    measured_from = begun + int(job.warmup * _NS)
    until = measured_from + int(job.seconds * _NS) if job.seconds else sys.maxsize
    latencies: list[int] = []
    total = 0
    for peer, exchange in zip(peers, exchanges, strict=False):
        peer.send(exchange)
    open_ = sum(peer.exchange is not None for peer in peers)
    ended = begun
    while open_:
        events = epoll.poll(STALL)
        if not events:
            raise LoadError(f"no answer for {STALL:.0f} seconds")
        for descriptor, _ in events:
            peer = by_descriptor[descriptor]
            if not peer.answered():
                continue
            now = perf_counter_ns()
            total += 1
            if measured_from <= now < until:
                latencies.append(now - peer.sent_at)
                ended = now
            following = next(exchanges, None) if now < until else None
            if following is None:
                peer.exchange = None
                open_ -= 1
            else:
                peer.send(following)
    return _summed_up(latencies, min(ended, until) - measured_from, total)


def _summed_up(latencies: list[int], duration: int, total: int) -> Measured:
    if not latencies:
        raise LoadError("nothing was answered in the time that was measured")
    latencies.sort()
    return Measured(
        answers=len(latencies),
        seconds=duration / _NS,
        p50=latencies[len(latencies) // 2] / 1000,
        p99=latencies[len(latencies) * 99 // 100] / 1000,
        total=total,
    )


def main() -> int:
    """Do the job on stdin."""
    job = Job(**json.load(sys.stdin))
    if job.core is not None:
        os.sched_setaffinity(0, {job.core})
    try:
        measured = perform(job)
    except (LoadError, OSError) as error:
        print(f"load generator: {error}", file=sys.stderr)
        return 1
    json.dump(dataclasses.asdict(measured), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
