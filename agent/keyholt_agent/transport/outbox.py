"""Frames on their way to the peer: sent at once as far as it takes them, the rest when it does.

- Frames leave whole and in the order in which they were given.
- A payload is sent from the locked memory that it lies in, which is released as soon as it is sent.
- It never waits: whoever owns it calls ``flush`` when the stream takes bytes again.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from keyholt_agent.memory import LockedBuffer
from keyholt_agent.transport.stream import ByteStream, PeerGoneError

__all__ = ["Outbox"]


class Outbox:
    """The sending side of one stream, which it does not own.

    Attributes:
        waiting: frames that the peer has not taken yet.
        taken: how many that had to wait it has taken so far.
    """

    __slots__ = ("_stream", "taken", "waiting")

    def __init__(self, stream: ByteStream) -> None:
        self._stream: Final = stream
        self.waiting: Final[deque[_Frame]] = deque()
        self.taken = 0

    def send(self, head: bytes, payload: LockedBuffer | None = None) -> None:
        """Take a frame, and own its payload; what the peer does not take now is kept for ``flush``.

        Raises:
            PeerGoneError: the peer has left.
        """
        parts: list[bytes | memoryview] = [head] if payload is None else [head, payload.view]
        if not self.waiting:
            try:
                sent = self._stream.send_nowait(parts)
            except PeerGoneError:
                _release(payload)
                raise
            if sent == len(head) and payload is None:
                return
            if payload is not None and sent == len(head) + len(payload.view):
                payload.release()  # as nearly always: nothing is kept of a frame that left at once
                return
            _take_off(parts, sent)
        self.waiting.append(_Frame(parts, payload))

    def flush(self) -> bool:
        """Send what the peer takes now; true once nothing is left.

        Raises:
            PeerGoneError: the peer has left.
        """
        while self.waiting:
            if not self.waiting[0].send_some(self._stream):
                return False
            self.waiting.popleft()
            self.taken += 1
        return True

    def release(self) -> None:
        """Give up what has not been sent."""
        while self.waiting:
            self.waiting.popleft().release()


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
