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
        frame = _Frame(head, payload)
        try:
            if self._frames or not frame.send_some(self._stream):
                self._frames.append(frame)
        except PeerGoneError:
            frame.release()
            raise

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
    """A frame of which a part may still have to be sent; owns its payload."""

    __slots__ = ("_left", "_parts", "_payload")

    def __init__(self, head: bytes, payload: LockedBuffer | None) -> None:
        self._payload = payload
        self._parts: list[bytes | memoryview] = [head] if payload is None else [head, payload.view]
        self._left = len(head) if payload is None else len(head) + len(payload)

    def send_some(self, stream: ByteStream) -> bool:
        """Send what the peer takes now; true, and the payload released, once the frame is sent."""
        sent = stream.send_nowait(self._parts)
        self._left -= sent
        if not self._left:
            self.release()
            return True
        while sent >= len(self._parts[0]):
            sent -= len(self._parts.pop(0))
        self._parts[0] = memoryview(self._parts[0])[sent:]
        return False

    def release(self) -> None:
        self._parts.clear()
        if self._payload is not None:
            self._payload.release()
