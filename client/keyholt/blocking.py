"""The blocking client.

- Threads may share an ``Agent``: a lock lets one of them talk at a time. For calls side by side, open one
  each.
- Connecting has a deadline; a call has none, for an unlock takes as long as its keyslot demands.
- A connection that breaks, as when the agent is restarted, is opened again once for a request that is safe to
  repeat or was not sent; otherwise ``AgentUnreachableError`` says whether a write may have happened.
- A forked child that goes on with an ``Agent`` gets a connection of its own; a fork in the middle of another
  thread's call leaves the child's unusable.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from datetime import datetime
from itertools import islice
from typing import Final, TypeVar

from keyholt import calls
from keyholt.address import Address, choose
from keyholt.calls import Call, Plan, Value
from keyholt.channel import Channel
from keyholt.connecting import Pause, connecting
from keyholt.exchange import Exchange
from keyholt.polling import Poller
from keyholt.secret import Secret
from keyholt.stream import Ready
from keyholt_protocol import messages as m
from keyholt_protocol.errors import (
    AgentUnreachableError,
    DeadlineExceededError,
    InvalidRequestError,
    KeyholtError,
)
from keyholt_protocol.limits import MAX_IN_FLIGHT

__all__ = ["Agent", "Slots", "connect", "get"]

T = TypeVar("T")

CONNECT_TIMEOUT: Final = 10.0
"""Seconds for the connection and its first answer; an agent busy with other clients answers well within
it."""

WINDOW: Final = MAX_IN_FLIGHT
"""Requests in flight in ``perform_all``: as many as the agent admits. When half of them are answered, as many
follow in one go, so that the agent has the other half to work on meanwhile."""


def connect(address: str | None = None, *, timeout: float = CONNECT_TIMEOUT) -> Agent:
    """Connect to the agent; close it, or use it in a ``with``.

    Args:
        address: where the agent is; without it the environment and the defaults are asked
            (``keyholt.address``).
        timeout: seconds until the agent must have answered the greeting.

    Raises:
        AgentUnreachableError: nobody answers there; the message says what to do.
        InvalidRequestError: the address has no known form.
    """
    return Agent(choose(address), timeout=timeout)


def get(path: str, *, version: int | None = None, address: str | None = None) -> Secret:
    """Fetch one secret over a connection of its own; see ``Agent.get``."""
    with connect(address) as agent:
        return agent.get(path, version=version)


class Agent:
    """A connection to the agent. Made by ``connect``.

    Any call may raise these beside its own:

    - ``UninitialisedError``, ``LockedError``: the agent has no store, or is locked; ``init``, ``unlock``.
      (``status`` is always possible, ``init`` and ``unlock`` are the way out.)
    - ``AgentUnreachableError``: the connection broke and could not be opened again; start the agent.
    - ``StoreUnavailableError``: the agent's store cannot be read or written; see ``keyholt doctor``.
    - ``InvalidRequestError``: a name is not allowed, or the client was closed; says what to write.

    Attributes:
        slots: the keyslots.
        greeting: what the agent said of itself when the connection was opened.
    """

    def __init__(self, address: Address, *, timeout: float = CONNECT_TIMEOUT) -> None:
        self.slots = Slots(self)
        self._address = address
        self._timeout = timeout
        self._lock = threading.Lock()
        self._poller = Poller()
        self._closed = False
        self._owner = os.getpid()
        self._channel, self.greeting = self._open()

    def get(self, path: str, *, version: int | None = None) -> Secret:
        """Fetch a secret: its newest version, or the one asked for.

        Raises:
            NotFoundError: there is no such secret or version, or it was deleted, destroyed or has expired.
            IntegrityError: what is stored was damaged or replaced; restore a backup.
            ResourceExhaustedError: the agent has no room for a value of this size now; try again.
        """
        return self.perform(calls.get(path, version))

    def put(
        self,
        path: str,
        value: Value,
        *,
        if_version: int | None = None,
        labels: Mapping[str, str] | None = None,
        expires: int | datetime | None = None,
    ) -> m.SecretPutResult:
        """Write the next version of a secret; it is on the agent's disk when this returns.

        Args:
            path: where to write.
            value: up to 16 MiB, and up to the agent's free locked memory; text is written as UTF-8.
            if_version: refuse the write unless this is the newest version; 0: unless there is none.
            labels: up to 16 short texts by name, not secret.
            expires: from when the version is no longer given out: seconds since 1970-01-01 UTC, or a time
                with a time zone.

        Raises:
            ConflictError: another version than ``if_version`` is the newest; read it and decide again.
            InvalidRequestError: the path, a label or the time of expiry is not allowed; says why.
            TooLargeError: the value is over the limit; store a reference to it instead.
            ResourceExhaustedError: the agent has no locked memory for the value; says what to raise.
            AgentUnreachableError: the connection broke; says whether the write may have happened.
        """
        return self.perform(calls.put(path, value, if_version=if_version, labels=labels, expires=expires))

    def list(self, prefix: str = "") -> list[m.SecretInfo]:
        """The live secrets whose path begins with ``prefix``, in the order of their paths, without values.

        It may come in pages, each a moment of its own: it is no snapshot while others write.
        """
        return self._follow(calls.list_secrets(prefix))

    def history(self, path: str) -> m.SecretHistoryResult:
        """All versions of a secret, newest first, without values; of a deleted one too.

        Raises:
            NotFoundError: there never was such a secret.
        """
        return self._follow(calls.history(path))

    def delete(self, path: str) -> m.SecretDeleteResult:
        """Hide a secret and its versions until it is undeleted or written again.

        Raises:
            NotFoundError: there is no such secret, or it is deleted already.
        """
        return self.perform(calls.delete(path))

    def undelete(self, path: str) -> m.SecretUndeleteResult:
        """Bring a deleted secret back as it was.

        Raises:
            NotFoundError: there never was such a secret.
        """
        return self.perform(calls.undelete(path))

    def destroy(self, path: str, *, version: int) -> m.SecretDestroyResult:
        """Destroy the data key of one version: nobody can read that value again.

        Raises:
            NotFoundError: there is no such secret or version.
        """
        return self.perform(calls.destroy(path, version))

    def status(self) -> m.AgentStatusResult:
        """The agent's state and the health of its parts; possible in every state."""
        return self.perform(calls.status())

    def lock(self) -> None:
        """Make the agent forget its keys until it is unlocked again."""
        self.perform(calls.lock())

    def unlock(self, *, passphrase: Value, slot: str | None = None) -> m.AgentUnlockResult:
        """Unlock the agent; takes about a second by design.

        Args:
            passphrase: of the keyslot; a ``bytearray`` lets the caller wipe it afterwards.
            slot: the keyslot to try; without it, each that a passphrase can open.

        Raises:
            UnlockFailedError: no keyslot opened.
            RateLimitedError: too many wrong ones; wait for ``details["retry_after"]`` seconds.
        """
        return self.perform(calls.unlock(passphrase, slot))

    def init(self, *, passphrase: Value, slot: str = "passphrase") -> m.StoreInitResult:
        """Create the store with its first keyslot; the agent is unlocked afterwards.

        Raises:
            AlreadyExistsError: there is a store.
        """
        return self.perform(calls.init(passphrase, slot))

    def close(self) -> None:
        """Close the connection; closing it twice is no error."""
        with self._lock:
            self._closed = True
            self._channel.fail()

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def perform(self, call: Call[T]) -> T:
        """Make one call, on a new connection if the old one broke and it is safe."""
        with self._lock:
            exchange = self._attempt(call)
            if exchange.repeatable:
                exchange = self._attempt(call)
            return exchange.outcome()

    def perform_all(self, several: Iterable[Call[T]]) -> Iterator[T]:
        """Make many calls, pipelined, and yield their results in order; the first error ends it.

        The connection is not opened again in between: what has been answered has been yielded.
        """
        with self._lock:
            channel = self._connected()
            waiting = iter(several)
            exchanges: deque[Exchange[T]] = deque()
            try:
                while True:
                    if len(exchanges) <= WINDOW // 2:
                        more = islice(waiting, WINDOW - len(exchanges))
                        exchanges.extend(map(channel.enqueue, more))
                        channel.flush()
                    if not exchanges:
                        return
                    self._poller.complete(channel, exchanges[0], math.inf)
                    yield exchanges.popleft().outcome()
            finally:
                for exchange in exchanges:
                    channel.abandon(exchange)

    def _follow(self, plan: Plan[T]) -> T:
        try:
            call = next(plan)
            while True:
                call = plan.send(self.perform(call))
        except StopIteration as end:
            result: T = end.value
            return result

    def _attempt(self, call: Call[T]) -> Exchange[T]:
        channel = self._connected()
        exchange = channel.submit(call)
        self._poller.complete(channel, exchange, math.inf)
        return exchange

    def _connected(self) -> Channel:
        if self._closed:
            raise InvalidRequestError(
                "this connection to the agent was closed; open another one with connect()"
            )
        if self._owner != os.getpid():
            # A forked child: the connection is the parent's, and so are the answers on it.
            self._channel.fail()
            self._owner = os.getpid()
        if self._channel.failed:
            self._channel, self.greeting = self._open()
        return self._channel

    def _open(self) -> tuple[Channel, m.SessionHelloResult]:
        deadline = time.monotonic() + self._timeout
        failure: KeyholtError | None = None
        with closing(connecting(self._address)) as steps:
            for step in steps:
                if isinstance(step, Ready | Pause):
                    if not self._poller.wait(step, deadline):
                        raise AgentUnreachableError(
                            f"the agent at {self._address} accepts no connection within {self._timeout:g} "
                            "seconds; is it stopped?"
                        )
                else:
                    try:
                        return self._greet(Channel(step, self._address), deadline)
                    except (AgentUnreachableError, DeadlineExceededError) as error:
                        failure = error  # it may have been over before it was ours: another one may follow
        raise failure or AssertionError("the steps of connecting end with a stream")

    def _greet(self, channel: Channel, deadline: float) -> tuple[Channel, m.SessionHelloResult]:
        exchange = channel.submit(calls.hello())
        try:
            if not self._poller.complete(channel, exchange, deadline):
                raise AgentUnreachableError(
                    "the agent accepted the connection and does not answer; see its log, or start it again"
                )
            greeting = exchange.outcome()
            channel.max_in_flight = greeting.max_in_flight
            return channel, greeting
        except BaseException:
            channel.fail()
            raise


class Slots:
    """The keyslots: the ways to unlock the store. ``agent.slots``."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def list(self) -> tuple[m.SlotInfo, ...]:
        """The keyslots, in the order in which they are tried."""
        return self._agent.perform(calls.slot_list())

    def add(self, name: str, *, existing: Value, new: Value) -> m.SlotAddResult:
        """Add a keyslot for the passphrase ``new``; ``existing`` opens a keyslot that is there.

        Raises:
            UnlockFailedError: ``existing`` opens none.
            AlreadyExistsError: the name is taken.
        """
        return self._agent.perform(calls.slot_add(name, existing, new, change=False))

    def change(self, name: str, *, existing: Value, new: Value) -> m.SlotAddResult:
        """Give the keyslot that ``existing`` opens the passphrase ``new``."""
        return self._agent.perform(calls.slot_add(name, existing, new, change=True))

    def remove(self, name: str, *, passphrase: Value) -> m.SlotRemoveResult:
        """Remove a keyslot; ``passphrase`` opens one of those that stay.

        Raises:
            ConflictError: it is the last one.
        """
        return self._agent.perform(calls.slot_remove(name, passphrase))
