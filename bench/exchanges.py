"""What is sent and what must come back, written by hand from ``docs/protocol.md``: no codec of the project.

- Requests are encoded ahead. An answer is held against what must be in it: it is a whole frame, a success for
  the request's id, and its payload is the value; what else its header says is the agent's.
- Secrets are named by number, and their values follow from the number: 48 bytes of text, nothing like each
  other, and paths that are all equally long.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import msgpack

from keyholt_protocol.limits import PROTOCOL_VERSION

__all__ = [
    "EXCHANGES",
    "GREETING",
    "PAGE_LIMIT",
    "VALUE_SIZE",
    "Exchange",
    "echo_of",
    "frame_size",
    "path_of",
    "value_of",
]

VALUE_SIZE: Final = 48
"""Bytes of every value: a long password, or an access key with its secret."""

PAGE_LIMIT: Final = 200
"""Entries that a page is asked for: the most that the protocol allows."""

_PREFIX: Final = struct.Struct(">II")
_GREETING_ID: Final = 1
_ID: Final = 2
"""The id of every request but the greeting: each connection has one in flight."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request, and how its answer's header begins and its payload ends."""

    request: bytes
    begins: bytes
    ends: bytes = b""

    def answered_by(self, frame: bytes) -> bool:
        """Whether a whole frame is the answer."""
        return frame.startswith(self.begins, _PREFIX.size) and frame.endswith(self.ends)


def path_of(number: int) -> str:
    """The path of a secret by its number."""
    return f"bench/app-{number % 100:02}/key-{number:07}"


def value_of(number: int) -> bytes:
    """The value of a secret by its number."""
    digest = hashlib.sha384(f"the value of secret {number}".encode()).digest()
    return base64.b64encode(digest)[:VALUE_SIZE]


def frame_size(data: bytes) -> int:
    """Bytes of the frame that ``data`` begins with, or of what has to be there to tell."""
    return _PREFIX.size + sum(_PREFIX.unpack_from(data)) if len(data) >= _PREFIX.size else _PREFIX.size


def echo_of(size: int, number: int = _ID) -> Exchange:
    """A frame of so many bytes as the agent answers with, there and back: not a byte less than it moves."""
    begins = _success(number)
    rest = (value_of(number) * size)[: size - _PREFIX.size - len(begins)]
    return Exchange(_PREFIX.pack(len(begins + rest), 0) + begins + rest, begins, rest)


def _success(number: int) -> bytes:
    """How the header of a success begins: a map of three, the id, ``ok``."""
    return b"\x83\xa2id" + bytes((number,)) + b"\xa2ok\xc3"


def _request(number: int, operation: str, arguments: Mapping[str, object], payload: bytes = b"") -> bytes:
    header: bytes = msgpack.packb({"id": number, "op": operation, "args": arguments})
    return _PREFIX.pack(len(header), len(payload)) + header + payload


GREETING: Final = Exchange(
    _request(_GREETING_ID, "session.hello", {"version": PROTOCOL_VERSION, "client": "keyholt-bench"}),
    _success(_GREETING_ID),
)
"""The greeting of every connection."""


def _get(number: int) -> Exchange:
    request = _request(_ID, "secret.get", {"path": path_of(number)})
    return Exchange(request, _success(_ID), value_of(number))


def _put(number: int) -> Exchange:
    return Exchange(_request(_ID, "secret.put", {"path": path_of(number)}, value_of(number)), _success(_ID))


def _page(number: int) -> Exchange:
    """The page after the secret of that number; after -1 comes the first."""
    after = {"after": path_of(number)} if number >= 0 else {}
    return Exchange(_request(_ID, "secret.list", {**after, "limit": PAGE_LIMIT}), _success(_ID))


EXCHANGES: Final[dict[str, Callable[[int], Exchange]]] = {"get": _get, "put": _put, "page": _page}
"""How each kind of job makes the exchange for a number."""
