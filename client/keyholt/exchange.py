"""One call under way on a channel, from the queue to its outcome; no waiting here either.

========= ============================================================= ======================================
stage     what holds                                                    what follows
========= ============================================================= ======================================
QUEUED    it waits for its turn                                         READY (``begin``)
READY     it has its number; no byte of it has left                     SENDING, SENT (``send``)
SENDING   a part of it has left                                         SENT (``send``)
SENT      all of it has left; its answer is to come                     DONE (``finish``), QUEUED (``refuse``)
ANSWERED  the answer came before all of it had left                     DONE (``send``)
REFUSED   it is to be made again, once all of it has left               QUEUED (``send``)
DONE      its outcome is there
LOST      the connection ended before its answer (``fail``)
========= ============================================================= ======================================

- READY and SENDING go to ANSWERED by ``finish`` and to REFUSED by ``refuse``: an agent may answer a large
  request by its header alone, and the rest has to be sent all the same.
- An exchange ends exactly once. What is received for a caller that gave up is wiped.
"""

from __future__ import annotations

import copy
import socket
from collections.abc import Callable
from enum import Enum, auto
from typing import Final, Generic, TypeVar, cast

from keyholt.address import Address
from keyholt.calls import Call
from keyholt_protocol.codec import from_map
from keyholt_protocol.errors import AgentUnreachableError, KeyholtError

__all__ = ["Exchange", "Stage"]

T = TypeVar("T")


class Stage(Enum):
    """How far an exchange has come; see the table above."""

    QUEUED = auto()
    READY = auto()
    SENDING = auto()
    SENT = auto()
    ANSWERED = auto()
    REFUSED = auto()
    DONE = auto()
    LOST = auto()


_WHOLE: Final = {
    Stage.READY: Stage.SENT,
    Stage.SENDING: Stage.SENT,
    Stage.ANSWERED: Stage.DONE,
    Stage.REFUSED: Stage.QUEUED,
}
"""What follows once all of the request has left."""


class Exchange(Generic[T]):
    """One call under way.

    Attributes:
        call: the call.
        stage: how far it has come.
        value: the payload of the answer.
        accompanied: whether other calls were under way at some time of this one.
        alone: whether it must be the only one under way, for it found no room among others.
        abandoned: whether nobody waits for its answer any more.
        repeatable: set when it is lost: it may be made again, for nothing of it had left, or doing it twice
            is as good as once.
        wake: called once when it has ended or may take over the pump; set by whoever waits.
    """

    __slots__ = (
        "_error",
        "_result",
        "_unsent",
        "abandoned",
        "accompanied",
        "alone",
        "call",
        "repeatable",
        "stage",
        "value",
        "wake",
    )

    def __init__(self, call: Call[T]) -> None:
        self.call = call
        self.stage = Stage.QUEUED
        self.value = bytearray()
        self.accompanied = False
        self.alone = False
        self.abandoned = False
        self.repeatable = False
        self.wake: Callable[[], None] | None = None
        self._unsent: list[memoryview] = []
        self._result: T | None = None
        self._error: KeyholtError | None = None

    @property
    def ended(self) -> bool:
        """Whether there is an outcome."""
        return self.stage is Stage.DONE or self.stage is Stage.LOST

    def outcome(self) -> T:
        """The call's result.

        Raises:
            KeyholtError: what the agent answered, or how the connection failed.
        """
        if self._error is not None:
            raise self._error
        return cast("T", self._result)

    def begin(self, head: bytes, *, accompanied: bool) -> None:
        """Take the number that ``head`` holds: it is this one's turn to be sent."""
        self._unsent = [memoryview(head), *self.call.payload]
        self.accompanied = accompanied
        self.stage = Stage.READY

    def send(self, sock: socket.socket) -> bool:
        """Send what the socket takes; true once the whole request has left."""
        sent = sock.sendmsg(self._unsent)
        if self.stage is Stage.READY:
            self.stage = Stage.SENDING
        while self._unsent and sent >= len(self._unsent[0]):
            sent -= len(self._unsent.pop(0))
        if sent:
            self._unsent[0] = self._unsent[0][sent:]
        if self._unsent:
            return False
        self._enter(_WHOLE[self.stage])
        return True

    def finish(self, result: dict[str, object] | None, error: KeyholtError | None) -> None:
        """Take the answer: the result's map, or the error."""
        if self.abandoned:
            self.wipe()
        elif result is not None:
            self._result = self.call.read(from_map(self.call.operation.result, result), self.value)
        self._error = error
        self._enter(Stage.ANSWERED if self._unsent else Stage.DONE)

    def refuse(self) -> None:
        """Take the agent's answer that it had no room among others: it is to be made once more, alone."""
        self.alone = True
        self._enter(Stage.REFUSED if self._unsent else Stage.QUEUED)

    def fail(self, error: KeyholtError | None, address: Address) -> None:
        """Take the end of the connection; ``error`` is what the agent said before it, if it said anything."""
        if self.stage is Stage.ANSWERED:
            self._enter(Stage.DONE)
            return
        self.wipe()
        maybe_done = self.stage in {Stage.SENDING, Stage.SENT}
        self.repeatable = not maybe_done or self.call.operation.repeatable
        # Each caller gets an exception of its own: one raised in several tasks would mix their tracebacks.
        self._error = copy.copy(error)
        if self._error is None:
            self._error = AgentUnreachableError(self._farewell(address, maybe_done=maybe_done))
            self._error.retryable = self.repeatable
        self._enter(Stage.LOST)

    def nudge(self) -> None:
        """Wake whoever waits for this exchange."""
        wake, self.wake = self.wake, None
        if wake is not None:
            wake()

    def wipe(self) -> None:
        """Zero what was received of the answer's payload."""
        self.value[:] = bytes(len(self.value))

    def _enter(self, stage: Stage) -> None:
        self.stage = stage
        if self.ended:
            self._unsent.clear()
            self.nudge()

    def _farewell(self, address: Address, *, maybe_done: bool) -> str:
        operation = self.call.operation
        text = f"the connection to the agent at {address} broke before it answered {operation.name}"
        if not operation.mutates:
            return f"{text}; start the agent again if it has stopped"
        if maybe_done:
            return f"{text}: it may or may not have been carried out; look before you repeat it"
        return f"{text}: it was not carried out; send it again once the agent runs"
