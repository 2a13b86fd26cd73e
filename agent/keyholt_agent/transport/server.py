"""Serves connections: who comes in, within what limits, and whose turn it is.

- All listening sockets and all connections wait together, in one task (``common_wait``). A connection that
  waits for nothing but its peer has no task of its own; a call that has to wait for something else has one
  for as long as it waits.
- Whose turn it is, ``turns`` decides.
- The limits leave descriptors for the store and room for other principals: what one opens never shuts out the
  rest.
- Nothing that a peer or a handler does raises out of ``serve``, or ends another's connection.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final

import trio

from keyholt_agent.defects import log_defect
from keyholt_agent.memory import LockedBuffer
from keyholt_agent.pipeline import Pipeline
from keyholt_agent.principal import Principal
from keyholt_agent.quotas import ConnectionQuotas
from keyholt_agent.transport.common_wait import READABLE, CommonWait
from keyholt_agent.transport.deadlines import Deadlines
from keyholt_agent.transport.endpoint import Endpoint, refuse
from keyholt_agent.transport.session import Session
from keyholt_agent.transport.stream import ByteStream
from keyholt_agent.transport.turns import Entry, Job, Observe, Turns
from keyholt_agent.transport.visit import Visit
from keyholt_protocol.errors import ResourceExhaustedError
from keyholt_protocol.limits import FRAME_DEADLINE

__all__ = ["Server"]

ACCEPT_PAUSE: Final = 0.1
"""Seconds without accepting where that has failed: no descriptors, no memory in the kernel, or a defect."""

ACCEPTS_AT_ONCE: Final = 8
"""Connections accepted, and first served, in one turn of the door."""

_log: Final = logging.getLogger("keyholt.server")


class Server:
    """Every connection of the agent.

    Args:
        pipeline: where requests go.
        buffer: the locked memory that all sessions receive into, one at a time.
        quotas: how many connections there may be.
        observe: is told how long each connection waited for its turn, and had it; see ``turns``.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        buffer: LockedBuffer,
        quotas: ConnectionQuotas,
        observe: Observe | None = None,
    ) -> None:
        self._pipeline: Final = pipeline
        self._buffer: Final = buffer
        self._quotas: Final = quotas
        self._wait: Final[CommonWait[Entry]] = CommonWait()
        self._wait.timed = observe is not None
        self._turns: Final = Turns(self._wait, observe)
        self._deadlines: Final[Deadlines[Visit]] = Deadlines(FRAME_DEADLINE)
        self._visits: Final[set[Visit]] = set()

    async def serve(self, endpoints: Iterable[Endpoint]) -> None:
        """Serve what comes in by these endpoints, which stay the caller's, until cancelled."""
        with self._wait:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._deadlines.run, Visit.overdue)
                    for endpoint in endpoints:
                        self._wait.watch(endpoint.fileno(), READABLE, _Door(self, endpoint))
                        nursery.start_soon(endpoint.tend)
                    turns = self._turns
                    while True:
                        turns.come(await self._wait.ready(busy=turns.waiting))
                        for job in turns.serve():
                            nursery.start_soon(job, name="a call that waits")
            finally:
                for visit in tuple(self._visits):
                    visit.close()
                self._turns.clear()

    def receive(self, stream: ByteStream, principal: Principal) -> Sequence[Job]:
        """Begin the visit of a new connection, which is often ready already; gives its jobs."""
        try:
            self._quotas.take(principal.quota)
        except ResourceExhaustedError as error:
            refuse(stream, error)
            return ()
        try:
            session = Session(stream, principal, self._pipeline, self._buffer)
            visit = Visit(
                session, self._pipeline, self._wait, self._deadlines, turns=self._turns, left=self._left
            )
        except BaseException:
            self._quotas.give_back(principal.quota)
            stream.close()
            raise
        self._visits.add(visit)
        return visit.serve()

    def forget_secrets(self) -> None:
        """The agent was locked: of what waits to be sent no value is left when this returns."""
        for visit in tuple(self._visits):
            visit.forget_secrets()

    def pause(self, door: _Door) -> Job:
        """Watch a door no more for a while; gives the job that does so again."""
        self._wait.leave(door.endpoint.fileno())
        return partial(self._resume, door)

    async def _resume(self, door: _Door) -> None:
        while True:
            await trio.sleep(ACCEPT_PAUSE)
            try:
                self._wait.watch(door.endpoint.fileno(), READABLE, door)
            except OSError as error:  # the kernel is short of something still
                _log.warning("cannot accept connections yet: %s", error.strerror)
            else:
                return

    def _left(self, visit: Visit) -> None:
        self._visits.discard(visit)
        self._quotas.give_back(visit.principal.quota)


class _Door(Entry):
    """An endpoint in the common wait, which tells of it for as long as there is something to accept.

    Newcomers have the first turn at the door: all of them share what it uses.
    """

    def __init__(self, server: Server, endpoint: Endpoint) -> None:
        super().__init__()
        self.endpoint: Final = endpoint
        self._server: Final = server

    def serve(self) -> list[Job]:
        """Let in who is there; gives the jobs of those that have come with something to do."""
        jobs: list[Job] = []
        try:
            for _ in range(ACCEPTS_AT_ONCE):
                arrival = self.endpoint.accept_nowait()
                if arrival is None:
                    break
                jobs += self._server.receive(*arrival)
        except OSError as error:
            _log.warning("cannot accept a connection: %s", error.strerror)
            jobs.append(self._server.pause(self))
        except Exception as error:
            log_defect(error)
            jobs.append(self._server.pause(self))
        return jobs
