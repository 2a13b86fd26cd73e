"""Frames on their way to the peer: sent at once as far as it takes them, the rest when it does.

- Frames leave whole and in the order in which they were given.
- A payload is sent from the locked memory that it lies in, which is released as soon as it is sent.
- Once the agent is locked no payload leaves any more: ``drop_payloads``.
- It never waits: whoever owns it calls ``flush`` when the stream takes bytes again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
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

    def send(self, head: bytes, payload: LockedBuffer | None = None, request_id: int = 0) -> None:
        """Take a frame, and own its payload; what the peer does not take now is kept for ``flush``.

        Args:
            request_id: which request a payload answers.

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
            self.waiting.append(_Frame(parts, payload, request_id, begun=sent > 0))
            return
        self.waiting.append(_Frame(parts, payload, request_id, begun=False))

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

    def drop_payloads(self, instead: Callable[[int], bytes]) -> bool:
        """Give up every payload that has not left, now.

        Args:
            instead: gives the frame that is sent in the place of an answer to a request.

        Returns:
            Whether the stream can go on. It cannot where the peer has taken part of such a frame, which
            nobody can complete any more: then nothing is left here.
        """
        if any(frame.holds_payload and frame.begun for frame in self.waiting):
            self.release()
            return False
        for frame in self.waiting:
            if frame.holds_payload:
                frame.become(instead(frame.request_id))
        return True

    def release(self) -> None:
        """Give up what has not been sent."""
        while self.waiting:
            self.waiting.popleft().release()


class _Frame:
    """What is left of a frame that the peer has not taken yet; owns its payload.

    Attributes:
        begun: whether the peer has taken some of it.
    """

    __slots__ = ("_parts", "_payload", "begun", "request_id")

    def __init__(
        self, parts: list[bytes | memoryview], payload: LockedBuffer | None, request_id: int, *, begun: bool
    ) -> None:
        self._parts = parts
        self._payload = payload
        self.request_id = request_id
        self.begun = begun

    @property
    def holds_payload(self) -> bool:
        return self._payload is not None

    def become(self, head: bytes) -> None:
        """Be another frame, without a payload; none of this one may have been sent."""
        self.release()
        self._parts.append(head)

    def send_some(self, stream: ByteStream) -> bool:
        """Send what the peer takes now; true, and the payload released, once all of it is sent."""
        sent = stream.send_nowait(self._parts)
        if not _take_off(self._parts, sent):
            self.begun = self.begun or sent > 0
            return False
        self.release()
        return True

    def release(self) -> None:
        self._parts.clear()
        _release(self._payload)
        self._payload = None


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
