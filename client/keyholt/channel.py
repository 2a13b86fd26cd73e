"""One connection to the agent, shared by many calls, without ever waiting: the core of every adapter.

A ``Channel`` joins a non-blocking socket to the sans-I/O connection of the protocol. An adapter submits a
call, which gives an ``Exchange``, and then turns ``pump`` until that has ended, waiting in its own way
(``poll``, trio, asyncio) whenever ``pump`` moved nothing. Answers are delivered to their exchanges, whoever
turns the pump.

- A request is sent whole or the connection dies: a caller that gives up with its request half sent takes the
  connection along; one that has not begun is taken out of the queue; one that waits for an answer leaves its
  exchange behind, and the late answer is received and wiped.
- The agent has a bounded room for values (docs/adr/0001, 0009). A call for which there was none among the
  others of this connection is made once more when they have been answered, with nothing beside it.
- A value is received straight into the ``bytearray`` that its ``Secret`` will own. The receive buffer, which
  sees the values of small answers, is zeroed after each use.
- After a failure every open exchange is failed, and the channel stays failed. ``Exchange.repeatable`` tells
  the adapter whether the call may be made again on a new connection.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from keyholt.address import SYSTEM_SOCKET, Address
from keyholt.calls import Call
from keyholt.exchange import Exchange, Stage
from keyholt_protocol.codec import to_map
from keyholt_protocol.connection import ClientConnection, ResponseReceived
from keyholt_protocol.errors import (
    AgentUnreachableError,
    InvalidRequestError,
    KeyholtError,
    RemoteProtocolError,
    ResourceExhaustedError,
)
from keyholt_protocol.limits import MAX_IN_FLIGHT

__all__ = ["Channel", "try_connect"]

T = TypeVar("T")

RECEIVE_SIZE: Final = 64 * 1024
"""Bytes taken at once; the answers of a full pipeline of small secrets fit."""

_ZEROES: Final = memoryview(bytes(RECEIVE_SIZE))


class Channel:
    """A connection that is open until it fails or is closed.

    Attributes:
        sock: the connected, non-blocking socket; the channel owns and closes it.
        max_in_flight: requests that the agent admits at once; the others wait here.
        leading: set by an adapter while one of its tasks turns the pump; the socket is not closed meanwhile.
        interrupt: set by that task while it waits; makes it look again at ``wants_write`` and ``failed``.
    """

    def __init__(self, sock: socket.socket, address: Address) -> None:
        self.sock = sock
        self.max_in_flight = MAX_IN_FLIGHT
        self.leading = False
        self.interrupt: Callable[[], None] | None = None
        self._address = address
        self._connection = ClientConnection()
        self._queue: deque[Exchange[Any]] = deque()  # not wholly sent, in order
        self._open: dict[int, Exchange[Any]] = {}  # begun and not answered
        self._answer: ResponseReceived | None = None  # its payload is being received
        self._last_word: KeyholtError | None = None  # the agent's error for the whole connection
        self._buffer = memoryview(bytearray(RECEIVE_SIZE))
        self.failed = False

    @property
    def wants_write(self) -> bool:
        """Whether something is waiting to be sent that the agent would admit now."""
        return bool(self._queue) and self._admits(self._queue[0])

    def submit(self, call: Call[T]) -> Exchange[T]:
        """Queue a call and send what can be sent at once."""
        exchange = Exchange(call)
        if not self._open and not self._queue:
            with self._whole():
                self._receive()  # an agent that has gone meanwhile is noticed before anything is sent
        if self.failed:
            exchange.fail(self._last_word, self._address)
            return exchange
        self._queue.append(exchange)
        with self._whole():
            self._flush()
        if self.wants_write and self.interrupt is not None:
            self.interrupt()
        return exchange

    def pump(self) -> bool:
        """Send and receive what can be without waiting; false if that was nothing."""
        if self.failed:
            return False
        with self._whole():
            moved = self._flush()
            return self._receive() or moved

    def abandon(self, exchange: Exchange[Any]) -> None:
        """Forget a call whose caller gave up; the connection survives unless the request is half sent."""
        if exchange.ended:
            exchange.wipe()
        elif exchange in self._queue and exchange.stage not in {Stage.QUEUED, Stage.READY}:
            self.fail()
        elif exchange in self._queue:
            self._queue.remove(exchange)
            self._open = {number: other for number, other in self._open.items() if other is not exchange}
        exchange.abandoned = True
        exchange.wake = None

    def hand_over(self) -> None:
        """Wake one waiting caller to turn the pump, unless somebody does."""
        if not self.leading:
            waiting = next(
                (exchange for exchange in (*self._open.values(), *self._queue) if exchange.wake), None
            )
            if waiting is not None:
                waiting.nudge()

    def fail(self) -> None:
        """End the connection: fail every open call, and close the socket once nobody waits on it."""
        if not self.failed:
            self.failed = True
            for exchange in {
                id(exchange): exchange for exchange in (*self._open.values(), *self._queue)
            }.values():
                exchange.fail(self._last_word, self._address)
            self._open.clear()
            self._queue.clear()
            if self.interrupt is not None:
                self.interrupt()
        if not self.leading:
            self.sock.close()

    @contextmanager
    def _whole(self) -> Generator[None]:
        """End the connection if moving bytes is broken off, as by a KeyboardInterrupt: where it stands is
        unknown.
        """
        try:
            yield
        except BaseException:
            self.fail()
            raise

    def _flush(self) -> bool:
        moved = False
        while self.wants_write:
            exchange = self._queue[0]
            if exchange.stage is Stage.QUEUED:
                self._begin(exchange)
            try:
                whole = exchange.send(self.sock)
            except BlockingIOError:
                return moved
            except OSError:  # it is gone; what it said last may still be there to be read
                while self._receive():
                    pass
                self.fail()
                return True
            moved = True
            if whole:
                self._queue.popleft()
                if exchange.stage is Stage.QUEUED:  # it was refused meanwhile, and is to be made again
                    self._queue.append(exchange)
        return moved

    def _admits(self, exchange: Exchange[Any]) -> bool:
        if exchange.stage is not Stage.QUEUED:
            return True
        if exchange.alone or (len(self._open) == 1 and next(iter(self._open.values())).alone):
            return not self._open
        return len(self._open) < self.max_in_flight

    def _begin(self, exchange: Exchange[Any]) -> None:
        call = exchange.call
        request_id, head = self._connection.send_request(
            call.operation.name, to_map(call.request), call.payload_size
        )
        for other in self._open.values():
            other.accompanied = True
        exchange.begin(head, accompanied=bool(self._open))
        self._open[request_id] = exchange

    def _receive(self) -> bool:
        room = self._connection.payload_room()
        try:
            size = self.sock.recv_into(self._buffer if room is None else room)
        except BlockingIOError:
            return False
        except OSError:
            size = 0
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
            elif event.payload_size:
                self._answer = event
                self._connection.accept_payload(self._target(event))
            else:
                self._complete(event)

    def _target(self, event: ResponseReceived) -> memoryview | None:
        exchange = self._open.get(event.id)
        if exchange is None or exchange.abandoned:
            return None
        if exchange.call.operation.result_payload is None or event.result is None:
            raise RemoteProtocolError(
                f"a payload came in answer to {exchange.call.operation.name}, which has none"
            )
        exchange.value = bytearray(event.payload_size)
        return memoryview(exchange.value)

    def _complete(self, event: ResponseReceived) -> None:
        exchange = self._open.get(event.id)
        if exchange is None:
            self._last_word = event.error
            return
        crowded = isinstance(event.error, ResourceExhaustedError) and exchange.accompanied
        if crowded and not exchange.abandoned:
            exchange.refuse()
            if exchange.stage is Stage.QUEUED:
                self._queue.append(exchange)
        else:
            exchange.finish(event.result, event.error)
        del self._open[event.id]


def try_connect(address: Address) -> Channel | None:
    """A channel to the agent at ``address``, or ``None`` while its queue of new connections is full.

    Raises:
        AgentUnreachableError: nobody answers there; says what to do.
        UnsupportedError: the address is none of a Unix socket.
    """
    path = address.socket_path()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.setblocking(False)
        sock.connect(path)
        return Channel(sock, address)
    except BlockingIOError:
        sock.close()
        return None
    except OSError as error:
        sock.close()
        raise AgentUnreachableError(_unreachable(path, error)) from None


def _unreachable(path: str, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        own = " nor in $XDG_RUNTIME_DIR/keyholt" if path == SYSTEM_SOCKET else ""
        remedy = "start the agent with `keyholt-agent`, or give its --address"
        return f"there is no socket at {path}{own}; {remedy}"
    if isinstance(error, ConnectionRefusedError):
        return f"nobody listens at {path}; start the agent with `keyholt-agent`"
    if isinstance(error, PermissionError):
        return (
            f"this user may not connect to {path}; run as the agent's user, or join the group of the socket"
        )
    return f"the agent at {path} cannot be reached ({error.strerror}); see `keyholt doctor`"
