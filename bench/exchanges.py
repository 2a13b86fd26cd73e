"""What is sent and what must come back: requests encoded ahead, and the answers they are held against.

- Every answer of one job has the same size, so that a generator needs no decoder to find where one ends.
- An answer is checked whole but for its ``created`` time, which the agent chose: its prefix, its header and
  its value. One that differs ends the benchmark.
- Secrets are named by number, and their values follow from the number: 48 bytes, nothing like each other.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from keyholt_protocol.codec import pack_header, to_map
from keyholt_protocol.framing import frame_head
from keyholt_protocol.limits import MAX_REQUEST_HEADER, MAX_RESPONSE_HEADER, PROTOCOL_VERSION
from keyholt_protocol.messages import (
    SecretGetRequest,
    SecretGetResult,
    SecretPutRequest,
    SecretPutResult,
    SessionHelloRequest,
)
from keyholt_protocol.operations import SECRET_GET, SECRET_PUT, SESSION_HELLO

__all__ = ["EXCHANGES", "VALUE_SIZE", "Exchange", "hello_frame", "path_of", "value_of"]

VALUE_SIZE: Final = 48
"""Bytes of every value: a long password, or an access key with its secret."""

_ID: Final = 2
"""The id of every request but the greeting: each connection has one in flight."""

_LATE: Final = 2**31
"""A time of creation that takes as many bytes as any of this decade or the next."""

_TIME_SIZE: Final = 4


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request, and how its answer begins and ends; ``size`` is the answer's in bytes."""

    request: bytes
    begins: bytes
    ends: bytes
    size: int


def path_of(number: int) -> str:
    """The path of a secret by its number."""
    return f"bench/app-{number % 100:02}/key-{number:06}"


def value_of(number: int) -> bytes:
    """The value of a secret by its number."""
    return hashlib.sha384(f"the value of secret {number}".encode()).digest()


def hello_frame() -> bytes:
    """The greeting of a connection."""
    greeting = SessionHelloRequest(version=PROTOCOL_VERSION, client="keyholt-bench")
    return frame_head(
        pack_header({"id": 1, "op": SESSION_HELLO.name, "args": to_map(greeting)}), 0, MAX_REQUEST_HEADER
    )


def _get(number: int) -> Exchange:
    return _numbered(_first_get(), number, value_of(number))


def _put(number: int) -> Exchange:
    # The value is the request's payload, and the answer has none.
    exchange = _numbered(_first_put(), number, b"")
    return Exchange(exchange.request + value_of(number), exchange.begins, b"", exchange.size)


def _echo(number: int) -> Exchange:
    # What the agent answers to a fetch, there and back: not a byte less than the agent has to move.
    fetch = _get(number)
    answer = fetch.begins + bytes(_TIME_SIZE) + fetch.ends
    return Exchange(answer, answer, b"", len(answer))


@functools.cache
def _first_get() -> Exchange:
    request = SecretGetRequest(path=path_of(0))
    return _exchange(
        SECRET_GET.name,
        to_map(request),
        0,
        to_map(SecretGetResult(version=1, created=_LATE)),
        VALUE_SIZE,
    )


@functools.cache
def _first_put() -> Exchange:
    request = SecretPutRequest(path=path_of(0))
    return _exchange(
        SECRET_PUT.name,
        to_map(request),
        VALUE_SIZE,
        to_map(SecretPutResult(version=1, created=_LATE)),
        0,
    )


def _exchange(
    operation: str, args: dict[str, object], payload: int, result: dict[str, object], answer_payload: int
) -> Exchange:
    """Both frames without their payloads; the agent writes its own with the same functions, the time last."""
    request = frame_head(pack_header({"id": _ID, "op": operation, "args": args}), payload, MAX_REQUEST_HEADER)
    answer = frame_head(
        pack_header({"id": _ID, "ok": True, "result": result}), answer_payload, MAX_RESPONSE_HEADER
    )
    return Exchange(request, answer[:-_TIME_SIZE], b"", len(answer) + answer_payload)


def _numbered(first: Exchange, number: int, ends: bytes) -> Exchange:
    """The same for another secret. All paths are equally long, so that nothing else in the frame changes."""
    request = first.request.replace(path_of(0).encode(), path_of(number).encode())
    return Exchange(request, first.begins, ends, first.size)


EXCHANGES: Final[dict[str, Callable[[int], Exchange]]] = {"echo": _echo, "get": _get, "put": _put}
"""How each kind of job makes the exchange for a number."""
