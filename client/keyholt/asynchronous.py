"""The client for tasks, whatever runs them: what ``keyholt.trio`` and ``keyholt.asyncio`` share.

- Tasks may share one ``AsyncAgent``: their requests are pipelined, and answers may overtake each other.
- There is no background task: of the tasks that wait for an answer one turns the channel's pump for all of
  them and hands it over when its own answer is there. Hence no nursery is held, and an idle connection costs
  nothing.
- A cancelled task takes nobody's answer along (see ``keyholt.channel``).
- There are no timeouts inside: set a deadline at the edge (``trio.fail_after``, ``asyncio.timeout``).
- A connection that breaks is opened again once, as ``keyholt.blocking`` says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, closing
from datetime import datetime
from typing import Any, Protocol, TypeVar

from keyholt import calls
from keyholt.address import Address
from keyholt.calls import Call, Plan, Value
from keyholt.channel import Channel
from keyholt.connecting import Pause, connecting
from keyholt.exchange import Exchange
from keyholt.secret import Secret
from keyholt.stream import Ready
from keyholt_protocol import messages as m
from keyholt_protocol.errors import (
    AgentUnreachableError,
    DeadlineExceededError,
    InvalidRequestError,
    KeyholtError,
)

__all__ = ["AsyncAgent", "AsyncSlots", "Event", "Kit"]

T = TypeVar("T")


class Event(Protocol):
    """What one task waits for and another sets."""

    def set(self) -> None: ...

    async def wait(self) -> object: ...


class Kit(Protocol):
    """What this module needs of the library that runs the tasks."""

    async def wait(self, ready: Ready, channel: Channel | None = None) -> None:
        """Wait for a descriptor; the ``interrupt`` of the channel, if one is given, ends the waiting."""
        ...

    async def sleep(self, seconds: float) -> None: ...

    def event(self) -> Event: ...

    def lock(self) -> AbstractAsyncContextManager[object]: ...


class AsyncAgent:
    """A connection to the agent for tasks; opened and closed by ``async with``.

    The methods are those of ``keyholt.Agent``, which describes them, to be awaited.

    Attributes:
        slots: the keyslots.
        greeting: what the agent said of itself; ``None`` before the connection is open.
    """

    def __init__(self, address: Address, kit: Callable[[], Kit]) -> None:
        self.slots = AsyncSlots(self)
        self.greeting: m.SessionHelloResult | None = None
        self._address = address
        self._make_kit = kit
        self._channel: Channel | None = None
        self._closed = True

    async def get(self, path: str, *, version: int | None = None) -> Secret:
        """Fetch a secret: its newest version, or the one asked for."""
        return await self.perform(calls.get(path, version))

    async def put(
        self,
        path: str,
        value: Value,
        *,
        if_version: int | None = None,
        labels: Mapping[str, str] | None = None,
        expires: int | datetime | None = None,
    ) -> m.SecretPutResult:
        """Write the next version of a secret; it is on the agent's disk when this returns."""
        return await self.perform(
            calls.put(path, value, if_version=if_version, labels=labels, expires=expires)
        )

    async def list(self, prefix: str = "") -> list[m.SecretInfo]:
        """The live secrets whose path begins with ``prefix``, without values."""
        return await self._follow(calls.list_secrets(prefix))

    async def history(self, path: str) -> m.SecretHistoryResult:
        """All versions of a secret, newest first, without values."""
        return await self._follow(calls.history(path))

    async def delete(self, path: str) -> m.SecretDeleteResult:
        """Hide a secret and its versions until it is undeleted or written again."""
        return await self.perform(calls.delete(path))

    async def undelete(self, path: str) -> m.SecretUndeleteResult:
        """Bring a deleted secret back as it was."""
        return await self.perform(calls.undelete(path))

    async def destroy(self, path: str, *, version: int) -> m.SecretDestroyResult:
        """Destroy the data key of one version: nobody can read that value again."""
        return await self.perform(calls.destroy(path, version))

    async def status(self) -> m.AgentStatusResult:
        """The agent's state and the health of its parts."""
        return await self.perform(calls.status())

    async def lock(self) -> None:
        """Make the agent forget its keys until it is unlocked again."""
        await self.perform(calls.lock())

    async def unlock(self, *, passphrase: Value, slot: str | None = None) -> m.AgentUnlockResult:
        """Unlock the agent; takes about a second by design."""
        return await self.perform(calls.unlock(passphrase, slot))

    async def init(self, *, passphrase: Value, slot: str = "passphrase") -> m.StoreInitResult:
        """Create the store with its first keyslot; the agent is unlocked afterwards."""
        return await self.perform(calls.init(passphrase, slot))

    async def close(self) -> None:
        """Close the connection; calls that are under way fail."""
        self._closed = True
        if self._channel is not None:
            self._channel.fail()

    async def __aenter__(self) -> AsyncAgent:
        self._kit = self._make_kit()
        self._opening = self._kit.lock()
        self._closed = False
        await self._connected()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def perform(self, call: Call[T]) -> T:
        """Make one call, on a new connection if the old one broke and it is safe."""
        exchange = await self._attempt(call)
        if exchange.repeatable and not self._closed:
            exchange = await self._attempt(call)
        return exchange.outcome()

    async def _follow(self, plan: Plan[T]) -> T:
        try:
            call = next(plan)
            while True:
                call = plan.send(await self.perform(call))
        except StopIteration as end:
            result: T = end.value
            return result

    async def _attempt(self, call: Call[T]) -> Exchange[T]:
        channel = await self._connected()
        exchange = channel.submit(call)
        await self._complete(channel, exchange)
        return exchange

    async def _connected(self) -> Channel:
        if self._closed:
            raise InvalidRequestError(
                "this connection to the agent is not open; use it inside `async with connect()`"
            )
        if self._channel is not None and not self._channel.failed:
            return self._channel
        async with self._opening:  # of the tasks that lost a connection one opens the next
            if self._channel is None or self._channel.failed:
                self._channel = await self._open()
            return self._channel

    async def _open(self) -> Channel:
        failure: KeyholtError | None = None
        with closing(connecting(self._address)) as steps:
            for step in steps:
                if isinstance(step, Pause):
                    await self._kit.sleep(step.seconds)
                elif isinstance(step, Ready):
                    await self._kit.wait(step)
                else:
                    try:
                        return await self._greet(Channel(step, self._address))
                    except (AgentUnreachableError, DeadlineExceededError) as error:
                        failure = error  # it may have been over before it was ours: another one may follow
        raise failure or AssertionError("the steps of connecting end with a stream")

    async def _greet(self, channel: Channel) -> Channel:
        try:
            exchange = channel.submit(calls.hello())
            await self._complete(channel, exchange)
            self.greeting = exchange.outcome()
            channel.max_in_flight = self.greeting.max_in_flight
            return channel
        except BaseException:
            channel.fail()
            raise

    async def _complete(self, channel: Channel, exchange: Exchange[Any]) -> None:
        """Wait for the exchange's end, turning the pump whenever nobody else does."""
        try:
            while not exchange.ended:
                if channel.leading:
                    event = self._kit.event()
                    exchange.wake = event.set
                    await event.wait()
                else:
                    await self._lead(channel, exchange)
        except BaseException:
            channel.abandon(exchange)
            raise
        finally:
            channel.hand_over()

    async def _lead(self, channel: Channel, exchange: Exchange[Any]) -> None:
        channel.leading = True
        try:
            while not exchange.ended:
                if not channel.pump() and not exchange.ended:
                    ready = channel.waits_for()
                    if ready is not None:
                        await self._kit.wait(ready, channel)
        finally:
            channel.leading = False
            if channel.failed:
                channel.fail()  # its socket was left open while this task might have been waiting on it


class AsyncSlots:
    """The keyslots: the ways to unlock the store. ``agent.slots``; see ``keyholt.blocking.Slots``."""

    def __init__(self, agent: AsyncAgent) -> None:
        self._agent = agent

    async def list(self) -> tuple[m.SlotInfo, ...]:
        """The keyslots, in the order in which they are tried."""
        return await self._agent.perform(calls.slot_list())

    async def add(self, name: str, *, existing: Value, new: Value) -> m.SlotAddResult:
        """Add a keyslot for the passphrase ``new``; ``existing`` opens a keyslot that is there."""
        return await self._agent.perform(calls.slot_add(name, existing, new, change=False))

    async def change(self, name: str, *, existing: Value, new: Value) -> m.SlotAddResult:
        """Give the keyslot that ``existing`` opens the passphrase ``new``."""
        return await self._agent.perform(calls.slot_add(name, existing, new, change=True))

    async def remove(self, name: str, *, passphrase: Value) -> m.SlotRemoveResult:
        """Remove a keyslot; ``passphrase`` opens one of those that stay."""
        return await self._agent.perform(calls.slot_remove(name, passphrase))
