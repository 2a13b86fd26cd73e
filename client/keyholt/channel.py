"""One connection to the agent, shared by many exchanges, without ever waiting: what every client has inside.

A ``Channel`` joins a stream to the sans-I/O connection of the protocol. A client submits an ``Exchange`` and
then turns ``pump`` until that has ended, waiting in its own way (``poll``, trio, asyncio) for what
``waits_for`` names. Answers are delivered to their exchanges, whoever turns the pump.

- A caller that gives up takes nobody along. A request that has not begun is taken out of the queue; one that
  waits for an answer leaves its exchange behind, and the late answer is received and wiped. Behind one that
  is half sent nothing can follow: the sending side is closed, what has left whole still gets its answers, and
  the rest can be made on another connection.
- The agent has a bounded room for values (docs/adr/0001, 0009). A request for which there was none among the
  others of this connection is made once more when they have been answered, with nothing beside it.
- A value is received straight into the ``bytearray`` that its ``Secret`` will own. The receive buffer, which
  sees the values of small answers, is zeroed after each use.
- After a failure every open exchange is failed, and the channel stays failed. ``Exchange.repeatable`` tells
  the client whether it may be made again on a new connection.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from keyholt.address import Address
from keyholt.exchange import Exchange, Stage
from keyholt.stream import Ready, Stream
from keyholt.system_errors import has_gone
from keyholt_protocol.client_connection import ClientConnection
from keyholt_protocol.codec import to_map
from keyholt_protocol.errors import (
    AgentUnreachableError,
    InvalidRequestError,
    KeyholtError,
    RemoteProtocolError,
    ResourceExhaustedError,
)
from keyholt_protocol.events import ResponseReceived
from keyholt_protocol.limits import MAX_IN_FLIGHT
from keyholt_protocol.messages import SecretGetRequest

__all__ = ["Channel"]

RECEIVE_SIZE: Final = 64 * 1024
"""Bytes taken at once; the answers of a full pipeline of small secrets fit."""

AT_ONCE: Final = 1024 * 1024
"""Bytes that one turn of the pump sends, and receives, at most: about half a millisecond, after which the
deadline is looked at and other tasks have their turn. More than a socket's buffer usually holds, so that it
costs no system call."""

_ZEROES: Final = memoryview(bytes(RECEIVE_SIZE))


class Channel:
    """A connection that is open until it fails or is closed.

    Attributes:
        failed: whether it has ended; it stays so.
        finishing: whether it sends nothing more: it has failed, or is only read to its end.
        max_in_flight: requests that the agent takes at once; the others wait here.
        leading: set by a client while one of its tasks turns the pump; the stream is not closed meanwhile.
        interrupt: set by that task while it waits; makes it look again at ``waits_for`` and ``failed``.
    """

    def __init__(self, stream: Stream, address: Address) -> None:
        self.failed = False
        self.finishing = False
        self.max_in_flight = MAX_IN_FLIGHT
        self.leading = False
        self.interrupt: Callable[[], None] | None = None
        self._stream = stream
        self._address = address
        self._connection = ClientConnection()
        self._queue: deque[Exchange[Any]] = deque()  # not wholly sent, in order
        self._open: dict[int, Exchange[Any]] = {}  # begun and not answered
        self._answer: ResponseReceived | None = None  # its payload is being received
        self._last_word: KeyholtError | None = None  # the agent's error for the whole connection
        self._cause: OSError | None = None  # what this side's system refused, if that ended it
        self._buffer = memoryview(bytearray(RECEIVE_SIZE))

    @property
    def wants_write(self) -> bool:
        """Whether something is waiting to be sent that the agent would take now."""
        return bool(self._queue) and not self.finishing and self._admits(self._queue[0])

    def waits_for(self) -> Ready | None:
        """What to wait for before ``pump`` can move anything; ``None``: nothing, it can at once."""
        return self._stream.waits_for(to_send=self.wants_write)

    def submit(self, exchange: Exchange[Any]) -> None:
        """Queue an exchange and send what can be sent at once."""
        self.enqueue(exchange)
        self.flush()
        if self.interrupt is not None and self.wants_write:
            self.interrupt()

    def enqueue(self, exchange: Exchange[Any]) -> None:
        """Queue an exchange; ``flush`` and ``pump`` send it, together with others in the queue."""
        if self.finishing:
            exchange.fail(self._last_word, self._address, self._cause)
        else:
            self._queue.append(exchange)

    def flush(self) -> None:
        """Send what can be sent at once."""
        try:
            self._send()
        except BaseException:
            self.fail()  # broken off, as by a KeyboardInterrupt: where the stream stands is unknown
            raise

    def pump(self) -> bool:
        """Send and receive what can be without waiting, ``AT_ONCE`` at most; false if that was nothing."""
        if self.failed:
            return False
        try:
            moved = self._send()
            return (not self.failed and self._receive()) or moved
        except BaseException:
            self.fail()  # as in ``flush``
            raise

    def abandon(self, exchange: Exchange[Any]) -> None:
        """Forget an exchange whose caller gave up."""
        exchange.abandoned = True
        exchange.wake = None
        if exchange.ended:
            exchange.wipe()
        elif exchange in self._queue and exchange.stage not in {Stage.QUEUED, Stage.READY}:
            self._finish_sending()
        elif exchange in self._queue:
            self._lose([exchange])
        if self.finishing:
            self._end_unless_awaited()

    def hand_over(self) -> None:
        """Wake one waiting caller to turn the pump, unless somebody does."""
        if not self.leading:
            waiting = next(
                (exchange for exchange in (*self._open.values(), *self._queue) if exchange.wake), None
            )
            if waiting is not None:
                waiting.nudge()

    def fail(self) -> None:
        """End the connection, at whatever point it stands; called again it only closes what was left open.

        1. The channel is marked first: failing an exchange wakes its caller, who may come back here, or
           submit the next one, before this function has returned.
        2. Every open exchange gets its outcome. One that is being sent stands in the queue and among the open
           ones, hence the set.
        3. A leader that waits for the descriptor is made to look, and leaves.
        4. The stream is closed by whoever comes here while nobody leads: this call, or the leader when it has
           left. Closed under a leader, the descriptor's number could be another file's while it still waits.
        """
        if not self.failed:
            self.failed = self.finishing = True
            for exchange in {*self._open.values(), *self._queue}:
                exchange.fail(self._last_word, self._address, self._cause)
            self._open.clear()
            self._queue.clear()
            if self.interrupt is not None:
                self.interrupt()
        if not self.leading:
            self._stream.close()

    def _finish_sending(self) -> None:
        """Send nothing more, in the middle of a request: what has left whole is still answered, and the agent
        carries nothing out of what has not (shutdown(2); docs/protocol.md, "When the connection ends").
        """
        self.finishing = True
        self._stream.finish_sending()
        self._lose(tuple(self._queue))
        if self.interrupt is not None:
            self.interrupt()

    def _lose(self, exchanges: Sequence[Exchange[Any]]) -> None:
        """Forget exchanges that will not be sent, or not to their end."""
        for exchange in exchanges:
            self._queue.remove(exchange)
        self._open = {number: one for number, one in self._open.items() if one not in exchanges}
        for exchange in exchanges:
            exchange.fail(self._last_word, self._address, self._cause)

    def _end_unless_awaited(self) -> None:
        """End a connection that sends nothing more once nobody waits for an answer on it."""
        if all(exchange.abandoned for exchange in (*self._open.values(), *self._queue)):
            self.fail()

    def _send(self) -> bool:
        """Send until nothing more is taken, or it was enough for once; false if nothing was."""
        room = AT_ONCE
        while room > 0 and self._queue and not self.finishing and (batch := self._next_batch()):
            try:
                sent = self._stream.send(_parts(batch, room))
            except OSError as error:
                self.finishing = True
                if not has_gone(error):  # it is still there, and would be waited for in vain
                    self._cause = error
                    self.fail()
                break  # of one that has gone, what it said before can still be read, and then the end
            if not sent:
                break
            room -= sent
            for exchange in batch:
                sent = exchange.take_sent(sent)
                if exchange.unsent:
                    break
                self._queue.popleft()
                if exchange.stage is Stage.QUEUED:  # it was refused meanwhile, and is to be made again
                    self._queue.append(exchange)
        return room < AT_ONCE

    def _next_batch(self) -> list[Exchange[Any]]:
        """What may be sent now, in order: each begun, so that it has its number."""
        batch: list[Exchange[Any]] = []
        for exchange in self._queue:
            if exchange.stage is Stage.QUEUED:
                if not self._admits(exchange):
                    break
                self._begin(exchange)
            batch.append(exchange)
        return batch

    def _admits(self, exchange: Exchange[Any]) -> bool:
        if exchange.stage is not Stage.QUEUED:
            return True
        if exchange.alone or (len(self._open) == 1 and next(iter(self._open.values())).alone):
            return not self._open
        return len(self._open) < self.max_in_flight

    def _begin(self, exchange: Exchange[Any]) -> None:
        operation, request, _, payload, _ = exchange.invocation
        if type(request) is SecretGetRequest and request.version is None:
            request_id, head = self._connection.send_fetch(request.path)
        else:
            request_id, head = self._connection.send_request(
                operation.name, to_map(request), sum(map(len, payload))
            )
        if len(self._open) == 1:  # of several each has company already
            next(iter(self._open.values())).accompanied = True
        exchange.begin(head, accompanied=bool(self._open))
        self._open[request_id] = exchange

    def _receive(self) -> bool:
        """Receive once; false if there was nothing, or the stream has ended."""
        room = None if self._answer is None else self._connection.payload_room()
        try:
            size = self._stream.receive_into(self._buffer if room is None else room[:AT_ONCE])
        except OSError as error:
            if not has_gone(error):
                self._cause = error
            size = 0
        if size is None:
            return False
        if not size:
            self.fail()
            return False
        try:
            if room is None:
                self._connection.receive_data(self._buffer[:size])
            else:
                self._connection.payload_received(size)
            self._deliver()
        except (RemoteProtocolError, InvalidRequestError) as error:
            self._last_word = AgentUnreachableError(
                f"what answers at {self._address} broke the protocol ({error}); "
                "is it a keyholt-agent of this version?"
            )
            self.fail()
        finally:
            if room is None:
                self._buffer[:size] = _ZEROES[:size]
        return True

    def _deliver(self) -> None:
        while (event := self._connection.next_event()) is not None:
            if not isinstance(event, ResponseReceived):
                answer, self._answer = self._answer, None
                if answer is not None:
                    self._complete(answer)
            elif not event.payload_size or self._connection.take_payload(self._target(event)):
                self._complete(event)
            else:
                self._answer = event

    def _target(self, event: ResponseReceived) -> memoryview | None:
        exchange = self._open.get(event.id)
        if exchange is None or exchange.abandoned:
            return None
        operation = exchange.invocation.operation
        if operation.result_payload is None or event.result is None:
            raise RemoteProtocolError(f"a payload came in answer to {operation.name}, which has none")
        exchange.value = bytearray(event.payload_size)
        return memoryview(exchange.value)

    def _complete(self, event: ResponseReceived) -> None:
        exchange = self._open.get(event.id)
        if exchange is None:
            self._last_word = event.error
            return
        crowded = isinstance(event.error, ResourceExhaustedError) and exchange.accompanied
        if not crowded or exchange.abandoned:
            exchange.finish(event.result, event.error)
        else:
            exchange.refuse()
            if self.finishing:
                exchange.fail(self._last_word, self._address, self._cause)
            elif exchange.stage is Stage.QUEUED:
                self._queue.append(exchange)
        del self._open[event.id]
        if self.finishing:
            self._end_unless_awaited()


def _parts(batch: Sequence[Exchange[Any]], room: int) -> list[bytes | memoryview]:
    """What of a batch is unsent, in order, up to ``room`` bytes."""
    parts: list[bytes | memoryview] = []
    for exchange in batch:
        for part in exchange.unsent:
            if len(part) > room:
                parts.append(memoryview(part)[:room])
                return parts
            parts.append(part)
            room -= len(part)
    return parts
