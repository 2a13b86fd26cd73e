"""One invocation under way on a channel, from the queue to its outcome; no waiting here either.

========= ============================================================= ======================================
stage     what holds                                                    what follows
========= ============================================================= ======================================
QUEUED    it waits for its turn                                         READY (``begin``)
READY     it has its number; no byte of it has left                     SENDING, SENT (``take_sent``)
SENDING   a part of it has left                                         SENT (``take_sent``)
SENT      all of it has left; its answer is to come                     DONE (``finish``), QUEUED (``refuse``)
ANSWERED  the answer came before all of it had left                     DONE (``take_sent``)
REFUSED   it is to be made again, once all of it has left               QUEUED (``take_sent``)
DONE      its outcome is there
LOST      the connection ended before its answer (``fail``)             QUEUED (``renew``)
========= ============================================================= ======================================

- READY and SENDING go to ANSWERED by ``finish`` and to REFUSED by ``refuse``: an agent may answer a large
  request by its header alone, and the rest has to be sent all the same.
- An exchange has one outcome. What is received for a caller that gave up is wiped.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from enum import Enum, auto
from typing import Generic, TypeVar, cast

from keyholt.address import Address
from keyholt.invocations import Invocation
from keyholt_protocol.codec import from_map
from keyholt_protocol.errors import AgentUnreachableError, DeadlineExceededError, KeyholtError

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


class Exchange(Generic[T]):
    """One invocation under way.

    Attributes:
        invocation: what is sent, and what becomes of the answer.
        stage: how far it has come.
        ended: whether there is an outcome.
        unsent: what of the request has not left yet.
        maybe_done: whether the agent may have carried it out: some of it has left, and it was not refused.
        value: the payload of the answer.
        accompanied: whether others were under way at some time of this one.
        alone: whether it must be the only one under way, for it found no room among others.
        abandoned: whether nobody waits for its answer any more.
        wake: called once when it has ended or may take over the pump; set by whoever waits.
    """

    __slots__ = (
        "_error",
        "_result",
        "abandoned",
        "accompanied",
        "alone",
        "ended",
        "invocation",
        "maybe_done",
        "stage",
        "unsent",
        "value",
        "wake",
    )

    def __init__(self, invocation: Invocation[T]) -> None:
        self.invocation = invocation
        self.stage = Stage.QUEUED
        self.ended = False
        self.unsent: list[bytes | memoryview] = []
        self.maybe_done = False
        self.value = bytearray()
        self.accompanied = False
        self.alone = False
        self.abandoned = False
        self.wake: Callable[[], None] | None = None
        self._result: T | None = None
        self._error: KeyholtError | None = None

    @property
    def repeatable(self) -> bool:
        """Whether it was lost and may be made again: it was not carried out, or twice is as good as once."""
        return self.stage is Stage.LOST and self._harmless

    def outcome(self) -> T:
        """The result.

        Raises:
            KeyholtError: what the agent answered, how the connection failed, or why the result is not what
                was asked for.
        """
        if self._error is not None:
            raise self._error
        convert = self.invocation.convert
        return cast("T", self._result) if convert is None else convert(self._result)

    def begin(self, head: bytes, *, accompanied: bool) -> None:
        """Take the number that ``head`` holds: it is this one's turn to be sent."""
        self.unsent = [head, *self.invocation.payload]
        self.accompanied = accompanied
        self.stage = Stage.READY

    def take_sent(self, size: int) -> int:
        """Take note that the next ``size`` bytes have left; gives how many of them were not of this one."""
        if size and self.stage is Stage.READY:
            self.stage = Stage.SENDING
            self.maybe_done = True
        while self.unsent and size >= len(self.unsent[0]):
            size -= len(self.unsent.pop(0))
        if self.unsent:
            if size:
                self.unsent[0] = memoryview(self.unsent[0])[size:]
            return 0
        if self.stage is Stage.SENDING:
            self.stage = Stage.SENT
        elif self.stage is Stage.ANSWERED:
            self._end(Stage.DONE)
        else:
            self.stage = Stage.QUEUED
        return size

    def finish(self, result: dict[str, object] | None, error: KeyholtError | None) -> None:
        """Take the answer: the result's map, or the error."""
        if self.abandoned:
            self.wipe()
        elif result is not None:
            operation, read = self.invocation.operation, self.invocation.read
            self._result = read(from_map(operation.result, result), self.value)
        self._error = error
        if self.unsent:
            self.stage = Stage.ANSWERED
        else:
            self._end(Stage.DONE)

    def refuse(self) -> None:
        """Take the agent's answer that it had no room among others: it is to be made once more, alone."""
        self.alone = True
        self.maybe_done = False
        self.stage = Stage.REFUSED if self.unsent else Stage.QUEUED

    def fail(self, error: KeyholtError | None, address: Address, cause: OSError | None = None) -> None:
        """Take the end of the connection.

        Args:
            error: what the agent said before it, if it said anything.
            address: where that is.
            cause: what this side's system refused, if that was what ended it.
        """
        if self.stage is Stage.ANSWERED:
            self._end(Stage.DONE)
            return
        self.wipe()
        # Each caller gets an exception of its own: one raised in several tasks would mix their tracebacks.
        self._error = copy.copy(error)
        if self._error is None:
            said = "" if cause is None else f" ({cause.strerror})"
            what = f"the connection to the agent at {address} broke{said} before it answered {self._name}"
            self._error = AgentUnreachableError(self._unanswered(what, "start the agent if it has stopped"))
            self._error.retryable = self._harmless
            self._error.__cause__ = cause
        self._end(Stage.LOST)

    def renew(self) -> None:
        """Begin again, after the connection was lost."""
        self.stage = Stage.QUEUED
        self.ended = False
        self.maybe_done = False
        self._error = None

    def overdue(self, seconds: float, address: Address) -> DeadlineExceededError:
        """The error of a caller who gave up because the time given was over."""
        what = f"the agent at {address} has not answered {self._name} within {seconds:g} seconds"
        error = DeadlineExceededError(self._unanswered(what, "ask again, or give it longer"))
        error.retryable = self._harmless
        return error

    def nudge(self) -> None:
        """Wake whoever waits for this exchange."""
        wake, self.wake = self.wake, None
        if wake is not None:
            wake()

    def wipe(self) -> None:
        """Zero what was received of the answer's payload."""
        self.value[:] = bytes(len(self.value))

    @property
    def _name(self) -> str:
        return self.invocation.operation.name

    @property
    def _harmless(self) -> bool:
        return not self.maybe_done or self.invocation.operation.repeatable

    def _end(self, stage: Stage) -> None:
        self.stage = stage
        self.ended = True
        self.unsent.clear()
        if self.wake is not None:
            self.nudge()

    def _unanswered(self, what: str, remedy: str) -> str:
        if not self.invocation.operation.mutates:
            return f"{what}; {remedy}"
        if self.maybe_done:
            return f"{what}: it may or may not have been carried out; look before you repeat it"
        return f"{what}: it was not carried out; {remedy}"
