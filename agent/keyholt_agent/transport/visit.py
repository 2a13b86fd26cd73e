"""A connection as the server sees it: what it is watched for, what its peer owes, what it waits for.

The session decides; a visit carries that out with the common wait, the deadlines and the tasks of the server.
It contains whatever the session raises: that ends the visit, and nothing else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final

import trio

from keyholt_agent.defects import log_defect
from keyholt_agent.pipeline import Call, Outcome, Pipeline, Reply
from keyholt_agent.principal import Principal
from keyholt_agent.transport.common_wait import EDGE, READABLE, WRITABLE, CommonWait
from keyholt_agent.transport.deadlines import Deadlines
from keyholt_agent.transport.session import Awaits, Session
from keyholt_agent.transport.stream import PeerGoneError
from keyholt_agent.transport.turns import Entry, Job, Turns

__all__ = ["Visit"]

Unstarted = tuple[Call[Any], Awaitable[Reply[Any]]]
"""A call that has to be waited for, and what to wait for."""

_READABLE: Final = READABLE | EDGE
_EVENTS: Final = {
    Awaits.BYTES: _READABLE, Awaits.ROOM: WRITABLE | EDGE, Awaits.NOTHING: 0, Awaits.OVER: 0,
}  # fmt: skip


class Visit(Entry):
    """One connection.

    Args:
        session: its session, which the visit owns.
        pipeline: where calls that have to wait are waited for.
        wait: where its stream is watched.
        deadlines: where its debts are kept.
        turns: where its calls pause.
        left: called once, when it has ended.
    """

    __slots__ = (
        "_deadlines",
        "_debt",
        "_events",
        "_left",
        "_open",
        "_pipeline",
        "_rests",
        "_scopes",
        "_session",
        "_turns",
        "_wait",
    )

    def __init__(
        self,
        session: Session,
        pipeline: Pipeline,
        wait: CommonWait[Any],
        deadlines: Deadlines[Visit],
        *,
        turns: Turns,
        left: Callable[[Visit], None],
    ) -> None:
        super().__init__()
        self._session = session
        self._turns = turns
        self._pipeline = pipeline
        self._wait = wait
        self._deadlines = deadlines
        self._left = left
        self._events = 0  # that its stream is watched for; 0: it is not watched
        self._debt: object = None
        self._scopes: set[trio.CancelScope] = set()  # of the calls that have tasks
        self._rests = False  # it is watched for bytes, and owes nothing
        self._open = True

    @property
    def principal(self) -> Principal:
        """Who is at the other end."""
        return self._session.principal

    def serve(self) -> Sequence[Job]:
        """Its stream is ready: go on, and give the calls that have to wait."""
        if not self._open:
            return ()  # it ended while it waited for its turn
        session = self._session
        try:
            session.serve_ready()
            if self._rests and session.at_rest:  # as nearly always
                if not session.dry:
                    session.dry, self.dry = True, False
                return ()
        except Exception as error:
            self._failed(error)
        unstarted = self._follow()
        if not session.dry:
            session.dry, self.dry = True, not self._open
        return [partial(self._wait_for, one) for one in unstarted]

    def serve_more(self, *, calm: bool) -> Sequence[Job]:
        self._session.calm = calm
        return self.serve()

    def hang_up(self) -> None:
        self._session.hung_up = True

    def overdue(self) -> None:
        """A debt of its peer has fallen due."""
        self._debt = None
        self._carry_on(self._session.overdue)

    def forget_secrets(self) -> None:
        """The agent was locked, perhaps by a request of this very visit, which is being served then."""
        session = self._session
        try:
            session.forget_secrets()
            if session.awaits is not Awaits.OVER:
                self._settle()
        except PeerGoneError:
            pass  # its stream is ready for that: it ends when it is served next
        except Exception as error:  # a defect; whatever it was, no value stays
            log_defect(error)
            self.close()

    def close(self) -> None:
        """End it now: nothing more is answered, and calls under way are cancelled."""
        if not self._open:
            return
        self._open = self._rests = False
        if self._events:
            self._wait.forget(self._session.stream.fileno())
        if self._debt is not None:
            self._deadlines.settle(self)
        for scope in self._scopes:
            scope.cancel()
        self._session.close()
        self._left(self)

    def _carry_on(self, act: Callable[[], None]) -> Sequence[Unstarted]:
        """Have the session act, and do what follows of it; gives the calls that have to be waited for."""
        try:
            act()
        except Exception as error:
            self._failed(error)
        return self._follow()

    def _follow(self) -> Sequence[Unstarted]:
        """Do what follows of what the session did; gives the calls that have to be waited for."""
        session = self._session
        try:
            if self._open:
                self._settle()
        except Exception as error:
            self._failed(error)
        unstarted = tuple(session.unstarted)
        session.unstarted.clear()
        return unstarted

    def _failed(self, error: Exception) -> None:
        """The peer has left, or there is a defect: its connection ends, and nobody else's."""
        if not isinstance(error, PeerGoneError):
            log_defect(error)
        self.close()

    def _settle(self) -> None:
        """Watch the stream for what the session awaits, and take down what its peer owes."""
        session = self._session
        awaits = session.awaits
        if awaits is Awaits.OVER:
            self.close()
            return
        events = _EVENTS[awaits]
        if events != self._events:
            self._watch(events)
        debt = session.debt
        if debt != self._debt:
            self._debt = debt
            if debt is None:
                self._deadlines.settle(self)
            else:
                self._deadlines.owe(self)
        self._rests = events == _READABLE and debt is None

    def _watch(self, events: int) -> None:
        self.behind = bool(events & WRITABLE)
        if self.behind:
            self._turns.some_behind = True
        fd = self._session.stream.fileno()
        if not self._events:
            self._wait.watch(fd, events, self)
        elif events:
            self._wait.change(fd, events)
        else:  # not watched for nothing: a peer that has hung up would be ready for ever
            self._wait.leave(fd)
        self._events = events

    async def _wait_for(self, first: Unstarted) -> None:
        """Wait for a call and answer it, then for the call whose turn comes with that, until there is none.

        A peer can see to it that there always is one: hence a loop, and not one call within another.
        """
        calls = deque([first])
        while calls:
            call, reply = calls.popleft()
            call.pause = self._turns.pause
            outcome: Outcome | None = None
            with trio.CancelScope() as scope:
                self._scopes.add(scope)
                if not self._open:
                    scope.cancel()  # its peer left in the moment of asking
                try:
                    outcome = await self._pipeline.wait_for(call, reply)
                except Exception as error:  # of concluding it; what a handler raises is concluded
                    self._failed(error)
            self._scopes.discard(scope)
            if outcome is not None and self._open:
                calls += self._carry_on(partial(self._session.answer, call, outcome))
            elif isinstance(outcome, Reply) and outcome.payload is not None:
                outcome.payload.release()
