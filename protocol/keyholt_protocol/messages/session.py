"""``session``: the opening of a connection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from keyholt_protocol.errors import InvalidRequestError, TooLargeError
from keyholt_protocol.limits import MAX_CLIENT_NAME

__all__ = ["SessionHelloRequest", "SessionHelloResult"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionHelloRequest:
    """``version``: the protocol version spoken. ``client``: a name for logs, such as ``keyholt 0.1.0``.

    What the agent does not know of a greeting it ignores; so does the client, of its result.
    """

    ignores_unknown: ClassVar[bool] = True

    version: int
    client: str = ""

    def __post_init__(self) -> None:
        if len(self.client) > MAX_CLIENT_NAME:
            raise TooLargeError(
                f"the client's name has more than {MAX_CLIENT_NAME} characters; shorten it",
                details={"field": "client", "limit": MAX_CLIENT_NAME},
            )
        if not self.client.isprintable():
            raise InvalidRequestError(
                "the client's name holds a character that is not printable; remove it",
                details={"field": "client"},
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionHelloResult:
    """``max_value``: bytes of a value. ``max_in_flight``: requests that may be open at once here.

    ``features``: names of what this agent can do beyond what every agent of the version can, so that nobody
    has to find it out by trying.
    """

    ignores_unknown: ClassVar[bool] = True

    version: int
    agent: str
    max_value: int
    max_in_flight: int
    features: tuple[str, ...] = ()
