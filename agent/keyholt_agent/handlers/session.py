"""``session``: the opening of a connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyholt_agent import __version__
from keyholt_agent.pipeline import AnyBinding, Call, Reply, bind
from keyholt_protocol import operations as ops
from keyholt_protocol.errors import UnsupportedError
from keyholt_protocol.limits import MAX_IN_FLIGHT, MAX_PAYLOAD, PROTOCOL_VERSION
from keyholt_protocol.messages import SessionHelloRequest, SessionHelloResult

if TYPE_CHECKING:
    from keyholt_agent.services import Services

__all__ = ["bindings", "hello"]


def bindings(_: Services) -> tuple[AnyBinding, ...]:
    """The handlers of this domain's operations, each with the part of the agent that it works with."""
    return (bind(ops.SESSION_HELLO, hello, f"keyholt-agent {__version__}"),)


def hello(agent: str, call: Call[SessionHelloRequest]) -> Reply[SessionHelloResult]:
    """Agree on the protocol version; there is one so far.

    Args:
        agent: how the agent calls itself.
    """
    if call.request.version != PROTOCOL_VERSION:
        raise UnsupportedError(
            f"this agent speaks protocol version {PROTOCOL_VERSION}, not {call.request.version}; "
            "use a client of the same release",
            details={"versions": [PROTOCOL_VERSION]},
        )
    result = SessionHelloResult(
        version=PROTOCOL_VERSION,
        agent=agent,
        max_payload=MAX_PAYLOAD,
        max_in_flight=MAX_IN_FLIGHT,
    )
    return Reply(result=result)
