"""``session``: the opening of a connection."""

from __future__ import annotations

from collections.abc import Sequence

from keyholt_agent import __version__
from keyholt_agent.pipeline import AnyBinding, Call, Reply, bind
from keyholt_protocol import operations as ops
from keyholt_protocol.limits import MAX_IN_FLIGHT, MAX_VALUE, PROTOCOL_VERSION
from keyholt_protocol.messages import SessionHelloRequest, SessionHelloResult
from keyholt_protocol.usual import PackedResult, pack_result

__all__ = ["bindings", "greeting", "hello"]


def bindings(features: Sequence[str]) -> tuple[AnyBinding, ...]:
    """The handlers of this domain's operations, each with what it works with."""
    return (bind(ops.SESSION_HELLO, hello, pack_result(greeting(features))),)


def greeting(features: Sequence[str]) -> SessionHelloResult:
    """What this agent says of itself to everybody."""
    return SessionHelloResult(
        version=PROTOCOL_VERSION,
        agent=f"keyholt-agent {__version__}",
        max_value=MAX_VALUE,
        max_in_flight=MAX_IN_FLIGHT,
        features=tuple(features),
    )


def hello(answer: PackedResult, _: Call[SessionHelloRequest]) -> Reply[SessionHelloResult]:
    """Say what there is; that the client speaks the agent's version, its connection has seen to."""
    return Reply(result=answer)
