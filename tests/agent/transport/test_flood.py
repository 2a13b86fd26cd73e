"""A flood of the worst that is allowed, on real connections: who is quiet has its turn before it.

Counted in turns, in the order in which the agent itself saw them; no time is measured.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import trio

from keyholt_agent.transport import turns
from keyholt_agent.transport.visit import Visit
from tests.support.floods import WORST
from tests.support.inside import of_uid
from tests.support.wire import request_frame

if TYPE_CHECKING:
    from keyholt_agent.transport.turns import Entry
    from tests.support.inside import Inside, Peer

FLOODERS = 40
QUIET = of_uid(17)
NOT_IN_FLIGHT = {"fetch", "status", "page"}
"""Requests that are waited for: of those no two may have one id, so each connection sends one at a time."""


class Flood:
    """Connections that send without waiting for answers, and take them: else the agent would read no more."""

    def __init__(self, peers: list[Peer], frame: bytes) -> None:
        self._sockets = [peer.stream.socket.fileno() for peer in peers]
        self._frame = frame * (1 + 4096 // len(frame))
        self._rest = dict.fromkeys(self._sockets, b"")

    def go_on(self) -> None:
        """Fill what the agent has taken, and take what it has answered."""
        for fd in self._sockets:
            with suppress(BlockingIOError):
                while True:
                    rest = self._rest[fd] or self._frame
                    self._rest[fd] = rest[os.write(fd, rest) :]
            with suppress(BlockingIOError):
                while os.read(fd, 1 << 20):
                    pass


def is_quiet(one: Entry) -> bool:
    """Whether that was the turn of the quiet connection."""
    return isinstance(one, Visit) and one.principal == QUIET


async def flooded(inside: Inside, kind: str) -> list[int]:
    """How many turns of the flood came between a request of a quiet peer and its own turn, each time."""
    seen: list[bool] = []
    inside.use(observe=lambda one, _: seen.append(is_quiet(one)))
    quiet = await inside.connect(principal=QUIET)
    (await quiet.call("secret.put", b"v", path="quiet")).expect()
    flood = Flood([await inside.connect() for _ in range(FLOODERS)], WORST[kind])
    found: list[int] = []
    turns_of_flood = 0
    for number in range(100, 160):
        flood.go_on()
        await trio.lowlevel.checkpoint()
        seen.clear()
        await quiet.send(request_frame(number, "secret.get", {"path": "quiet"}))
        while not any(seen):
            await trio.lowlevel.checkpoint()
        found.append(seen.index(True))
        turns_of_flood += len(seen) - 1
        assert (await quiet.receive()).expect().id == number
    assert turns_of_flood > FLOODERS
    return found[10:]  # until each of the flood has had its first turn it is as good as anybody


REFUSED = sorted(WORST.keys() - NOT_IN_FLIGHT)


@pytest.mark.parametrize("kind", REFUSED)
async def test_quiet_connection_is_served_next(inside: Inside, kind: str) -> None:
    """Beside 40 that send the worst frames without end, a request waits for two turns of them at most: the
    one under way, and one that a pass owes.
    """
    assert max(await flooded(inside, kind)) <= 2


async def test_without_turns_a_flood_comes_first(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: were whoever has more to be served put among those that have become ready, as before."""

    def keep(self: turns.Turns, one: Entry) -> None:
        one.dry = True
        self._come.append(one)

    monkeypatch.setattr(turns.Turns, "_keep", keep)
    monkeypatch.setattr(turns, "_due", lambda _: 0)
    assert max(await flooded(inside, "late id")) > 2


@pytest.mark.parametrize("kind", REFUSED)
async def test_flood_itself_is_served(inside: Inside, kind: str) -> None:
    """Each of its connections has its turns."""
    seen: list[int] = []
    inside.use(observe=lambda one, _: seen.append(id(one)))
    flood = Flood([await inside.connect() for _ in range(FLOODERS)], WORST[kind])
    flood.go_on()
    await trio.lowlevel.checkpoint()
    seen.clear()
    while len(seen) < 10 * FLOODERS:
        flood.go_on()
        await trio.lowlevel.checkpoint()
    assert len(set(seen)) == FLOODERS
