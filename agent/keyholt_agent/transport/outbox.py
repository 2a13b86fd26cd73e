"""Frames on their way to the peer: sent at once as far as it takes them, the rest when it does.

- Frames leave whole and in the order in which they were given.
- A payload is sent from the locked memory that it lies in, which is released as soon as it is sent.
- A peer that takes nothing for too long is treated as gone.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import trio

from keyholt_agent.memory import LockedBuffer
from keyholt_agent.transport.stream import ByteStream, PeerGoneError

__all__ = ["Outbox"]


class Outbox:
    """The sending side of one stream.

    Args:
        stream: where to; not owned.
        deadline: seconds within which the peer must take a frame once it is its turn.
    """

    def __init__(self, stream: ByteStream, deadline: float) -> None:
        self._stream: Final = stream
        self._deadline: Final = deadline
        self._frames: Final[deque[_Frame]] = deque()
        self._flushing: Final = trio.Lock()

    def __len__(self) -> int:
        """Frames that the peer has not taken yet."""
        return len(self._frames)

    def send_nowait(self, head: bytes, payload: LockedBuffer | None = None) -> None:
        """Take a frame, and own its payload; if it is not sent at once, ``flush`` has to be called.

        Raises:
            PeerGoneError: the peer has left.
        """
        parts: list[bytes | memoryview] = [head] if payload is None else [head, payload.view]
        if not self._frames:
            try:
                taken = _take_off(parts, self._stream.send_nowait(parts))
            except PeerGoneError:
                _release(payload)
                raise
            if taken:  # as nearly always: nothing is kept of a frame that left at once
                _release(payload)
                return
        self._frames.append(_Frame(parts, payload))

    async def flush(self) -> None:
        """Wait until the peer has taken every frame so far.

        Raises:
            PeerGoneError: the peer has left, or did not take a frame in time.
        """
        async with self._flushing:
            while self._frames:
                with trio.move_on_after(self._deadline) as scope:
                    while not self._frames[0].send_some(self._stream):
                        await self._stream.wait_writable()
                if scope.cancelled_caught:
                    raise PeerGoneError
                self._frames.popleft()

    def release(self) -> None:
        """Give up what has not been sent."""
        for frame in self._frames:
            frame.release()


class _Frame:
    """What is left of a frame that the peer has not taken yet; owns its payload."""

    __slots__ = ("_parts", "_payload")

    def __init__(self, parts: list[bytes | memoryview], payload: LockedBuffer | None) -> None:
        self._parts = parts
        self._payload = payload

    def send_some(self, stream: ByteStream) -> bool:
        """Send what the peer takes now; true, and the payload released, once all of it is sent."""
        if not _take_off(self._parts, stream.send_nowait(self._parts)):
            return False
        self.release()
        return True

    def release(self) -> None:
        self._parts.clear()
        _release(self._payload)


def _take_off(parts: list[bytes | memoryview], sent: int) -> bool:
    """Drop what was sent from the parts of a frame; true, and none left, if that was all."""
    while sent >= len(parts[0]):
        sent -= len(parts.pop(0))
        if not parts:
            return True
    parts[0] = memoryview(parts[0])[sent:]
    return False


def _release(payload: LockedBuffer | None) -> None:
    if payload is not None:
        payload.release()
