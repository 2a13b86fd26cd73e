"""Frames: where one ends and the next begins, without knowing what they mean.

A frame, all numbers big-endian:

====== ====== =======================================================================
offset size   what
====== ====== =======================================================================
0      4      header length H, u32, 1 to 8,192 in a request and 65,536 in a response
4      4      payload length P, u32, 0 to 16,842,752
8      H      header: one msgpack map
8+H    P      payload: raw bytes, the only place where a secret may travel
====== ====== =======================================================================

- Both lengths are checked before a byte of what they announce is kept.
- A payload is never buffered here: it goes from the receiver's buffer straight into memory that the caller
  names, so that the agent can take it into locked memory. The caller may also receive into that memory.
- After a wrong length the decoder stays in error and holds nothing. Misuse raises and changes nothing.
"""

from __future__ import annotations

import struct
from typing import Final

from keyholt_protocol.errors import LocalProtocolError, RemoteProtocolError, TooLargeError
from keyholt_protocol.limits import MAX_PAYLOAD, PREFIX_SIZE

__all__ = ["FrameDecoder", "frame_head"]

_PREFIX: Final = struct.Struct(">II")
_NOTHING: Final = memoryview(b"")


def frame_head(header: bytes, payload_size: int, max_header: int) -> bytes:
    """The prefix and the header of a frame; the payload follows it on the stream.

    Args:
        header: the encoded header, 1 to ``max_header`` bytes.
        payload_size: bytes of payload that the caller sends next.
        max_header: bytes of a header in this direction.

    Raises:
        LocalProtocolError: either is over its limit; nothing may be sent.
    """
    if not 0 < len(header) <= max_header or not 0 <= payload_size <= MAX_PAYLOAD:
        raise LocalProtocolError(f"a frame of {len(header)} + {payload_size} bytes is outside the limits")
    return _PREFIX.pack(len(header), payload_size) + header


class FrameDecoder:
    """Finds headers and payloads in a stream of bytes; no header may be longer than ``max_header``.

    Call ``feed`` with what was received, then ``next_header`` until it gives ``None``. A header with a
    payload length above 0 must be followed by ``accept_payload`` and by ``payload_done`` until that is true.
    """

    __slots__ = (
        "_data",
        "_failed",
        "_max_header",
        "_missing",
        "_partial",
        "_payload_open",
        "_target",
        "_target_filled",
    )

    def __init__(self, max_header: int) -> None:
        self._max_header = max_header
        self._data: memoryview = _NOTHING  # borrowed from the caller until it is used up
        self._partial = bytearray()  # a prefix and header that came in pieces
        self._missing = 0  # payload bytes not yet seen
        self._payload_open = False  # a header announced a payload that nobody has accepted yet
        self._target: memoryview | None = None
        self._target_filled = 0
        self._failed = False

    @property
    def mid_frame(self) -> bool:
        """Whether a frame has begun and not ended: the peer owes bytes."""
        return self._missing > 0 or bool(self._partial)

    @property
    def missing(self) -> int:
        """Bytes that the frame under way has still to get, as far as is known: of its prefix, then of its
        header, then of its payload. 0 between frames.
        """
        if self._missing:
            return self._missing
        size = len(self._partial)
        if size < PREFIX_SIZE:
            return PREFIX_SIZE - size if size else 0
        return PREFIX_SIZE + int.from_bytes(self._partial[:4], "big") - size

    def feed(self, data: memoryview) -> None:
        """Lend received bytes to the decoder, which reads them before it is fed again."""
        if self._failed or self._data:
            raise LocalProtocolError("the decoder failed before, or had not used up what it was fed")
        self._data = data

    def fail(self) -> None:
        """Read nothing more, and let go of every byte and every memory held."""
        self._failed = True
        self._data = _NOTHING
        self._partial = bytearray()
        self._target = None
        self._missing = 0
        self._payload_open = False

    def next_header(self) -> tuple[memoryview | bytearray, int] | None:
        """The next header and its payload's length, or ``None`` when more bytes are needed.

        The header is valid until the next call of any method.

        Raises:
            RemoteProtocolError: a length is outside the limits.
        """
        if self._failed or self._missing:
            raise LocalProtocolError("no header can be read now: an error or a payload comes first")
        if self._partial:
            return self._header_from_pieces()
        data = self._data
        if len(data) < PREFIX_SIZE:
            if data:
                self._keep(len(data))
            return None
        header_size, payload_size = self._checked_sizes(data)
        end = PREFIX_SIZE + header_size
        if len(data) < end:
            self._keep(len(data))
            return None
        self._data = data[end:]
        self._open_payload(payload_size)
        return data[PREFIX_SIZE:end], payload_size

    def accept_payload(self, target: memoryview | None) -> None:
        """Say where the announced payload goes: memory of exactly its size, or ``None`` to discard it."""
        if not self._payload_open:
            raise LocalProtocolError("no payload is waiting to be accepted")
        if target is not None and (target.readonly or not len(target) == target.nbytes == self._missing):
            raise LocalProtocolError(f"the payload's target must be {self._missing} writable bytes")
        self._payload_open = False
        self._target = target
        self._target_filled = 0

    def payload_done(self) -> bool:
        """Move fed bytes into the target; true once the payload is whole."""
        if self._failed or self._payload_open:
            raise LocalProtocolError("the payload has not been accepted yet, or the decoder failed before")
        size = min(self._missing, len(self._data))
        if size:
            if self._target is not None:
                self._target[self._target_filled : self._target_filled + size] = self._data[:size]
            self._data = self._data[size:]
            self._advance(size)
        return self._missing == 0

    def payload_room(self) -> memoryview | None:
        """The part of the target still to be filled, for receiving into it directly, if there is one."""
        return None if self._target is None else self._target[self._target_filled :]

    def payload_received(self, size: int) -> None:
        """Say that ``size`` bytes were received straight into ``payload_room``."""
        if self._target is None or self._data or not 0 <= size <= self._missing:
            raise LocalProtocolError("more was received into the payload than it has room for")
        self._advance(size)

    def _advance(self, size: int) -> None:
        self._missing -= size
        self._target_filled += size
        if not self._missing:
            self._target = None

    def _header_from_pieces(self) -> tuple[bytearray, int] | None:
        partial = self._partial
        self._keep(PREFIX_SIZE - len(partial))
        if len(partial) < PREFIX_SIZE:
            return None
        header_size, payload_size = self._checked_sizes(partial)
        self._keep(PREFIX_SIZE + header_size - len(partial))
        if len(partial) < PREFIX_SIZE + header_size:
            return None
        self._partial = bytearray()
        self._open_payload(payload_size)
        del partial[:PREFIX_SIZE]
        return partial, payload_size

    def _keep(self, size: int) -> None:
        if size > 0 and self._data:
            self._partial += self._data[:size]
            self._data = self._data[size:]

    def _open_payload(self, size: int) -> None:
        self._missing = size
        self._payload_open = size > 0

    def _checked_sizes(self, data: memoryview | bytearray) -> tuple[int, int]:
        header_size, payload_size = _PREFIX.unpack_from(data)
        if 0 < header_size <= self._max_header and payload_size <= MAX_PAYLOAD:
            return header_size, payload_size
        self.fail()
        if not header_size:
            raise RemoteProtocolError("a header of no bytes is announced; every frame has one")
        if header_size > self._max_header:
            raise _too_large("header", header_size, self._max_header)
        raise _too_large("payload", payload_size, MAX_PAYLOAD)


def _too_large(what: str, size: int, limit: int) -> RemoteProtocolError:
    message = f"a {what} of {size} bytes is announced; at most {limit} are allowed"
    return RemoteProtocolError(message, TooLargeError(message, details={"field": what, "limit": limit}))
