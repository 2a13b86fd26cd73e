"""One call under way on a channel, from the queue to its outcome; no waiting here either.

- A slot ends exactly once: answered (``finish``) or lost with its connection (``fail``).
- What is received for a caller that gave up is wiped.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Generic, TypeVar, cast

from keyholt.address import Address
from keyholt.calls import Call
from keyholt_protocol.codec import from_map
from keyholt_protocol.errors import AgentUnreachableError, KeyholtError

__all__ = ["Slot"]

T = TypeVar("T")


class Slot(Generic[T]):
    """One call under way.

    Attributes:
        call: the call.
        done: whether its outcome is there.
        lost: whether it failed because the connection did.
        crowded: whether the agent refused it for want of room while others were under way, so that it may do
            better alone.
        wake: called once when it is done or may take over the pump; set by whoever waits.
    """

    __slots__ = (
        "_answered",
        "_error",
        "_result",
        "_unsent",
        "abandoned",
        "accompanied",
        "call",
        "crowded",
        "done",
        "lost",
        "started",
        "value",
        "wake",
    )

    def __init__(self, call: Call[T]) -> None:
        self.call = call
        self.done = False
        self.lost = False
        self.started = False  # a byte of the request has left
        self.abandoned = False  # nobody waits for the answer any more
        self.value = bytearray()  # the payload of the answer
        self.wake: Callable[[], None] | None = None
        self.accompanied = False  # other calls were under way at some time of this one
        self.crowded = False
        self._answered = False
        self._unsent: list[memoryview] = []
        self._result: T | None = None
        self._error: KeyholtError | None = None

    @property
    def repeatable(self) -> bool:
        """Whether the call may be made again: it never began, or doing it twice is as good as once."""
        return self.lost and (not self.started or self.call.operation.repeatable)

    def outcome(self) -> T:
        """The call's result.

        Raises:
            KeyholtError: what the agent answered, or how the connection failed.
        """
        if self._error is not None:
            raise self._error
        return cast("T", self._result)

    def finish(self, result: dict[str, object] | None, error: KeyholtError | None) -> None:
        """Take the answer: the result's map, or the error.

        It may come before the request has left, as when its header was refused; the rest has to be sent all
        the same, so the slot is not done until then.
        """
        if self.abandoned:
            self.value[:] = bytes(len(self.value))
        elif result is not None:
            self._result = self.call.read(from_map(self.call.operation.result, result), self.value)
        self._error = error
        self._answered = True
        if not self._unsent:
            self._end()

    def fail(self, error: KeyholtError | None, address: Address) -> None:
        """Take the end of the connection; ``error`` is what the agent said before it, if it said anything."""
        if self._answered:
            self._end()
            return
        self.lost = True
        self.value[:] = bytes(len(self.value))
        # Each caller gets an exception of its own: one raised in several tasks would mix their tracebacks.
        self._error = type(error)(str(error)) if error else AgentUnreachableError(self._farewell(address))
        self._end()

    def nudge(self) -> None:
        """Wake whoever waits for this slot."""
        wake, self.wake = self.wake, None
        if wake is not None:
            wake()

    def begin(self, head: bytes) -> None:
        self._unsent = [memoryview(head), *self.call.payload]

    def send(self, sock: socket.socket) -> bool:
        """Send what the socket takes; true once the whole request has left."""
        sent = sock.sendmsg(self._unsent)
        self.started = True
        while self._unsent and sent >= len(self._unsent[0]):
            sent -= len(self._unsent.pop(0))
        if sent:
            self._unsent[0] = self._unsent[0][sent:]
        if self._unsent:
            return False
        if self._answered:
            self._end()
        return True

    @property
    def begun(self) -> bool:
        return bool(self._unsent)

    def _end(self) -> None:
        self.done = True
        self._unsent.clear()
        self.nudge()

    def _farewell(self, address: Address) -> str:
        operation = self.call.operation
        text = f"the connection to the agent at {address} broke before it answered {operation.name}"
        if not operation.mutates:
            return f"{text}; start the agent again if it has stopped"
        if self.started:
            return f"{text}: it may or may not have been carried out; look before you repeat it"
        return f"{text}: it was not carried out"
