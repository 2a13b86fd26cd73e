"""What a connection tells whoever does its I/O: a header came, or the payload that it announced is whole."""

from __future__ import annotations

from dataclasses import dataclass

from keyholt_protocol.errors import KeyholtError

__all__ = ["PayloadReceived", "RequestReceived", "ResponseReceived"]


@dataclass(slots=True)
class RequestReceived:
    """A request's header came. ``args`` is decoded msgpack, not yet held against the operation.

    ``defect``: why the request is to be refused, whatever it asks. ``op`` is empty where it cannot be read.
    ``message``: what ``args`` come to, where that is known already (``usual``).
    """

    id: int
    op: str
    args: dict[str, object]
    payload_size: int
    defect: KeyholtError | None = None
    message: object = None


@dataclass(slots=True, kw_only=True)
class ResponseReceived:
    """A response's header came. ``result`` is ``None`` exactly when ``error`` is set.

    ``id`` 0 is no request's answer: the agent says why it is about to close the connection.
    """

    id: int
    result: dict[str, object] | None
    error: KeyholtError | None
    payload_size: int


@dataclass(slots=True, kw_only=True)
class PayloadReceived:
    """The payload announced last is whole, in the memory that ``accept_payload`` named."""

    id: int
