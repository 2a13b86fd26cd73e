"""What a request is refused for before anything is sent, and how the pages of an answer follow each other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import keyholt
from keyholt import invocations
from keyholt.invocations import Invocation
from keyholt_protocol import operations as ops
from keyholt_protocol.errors import AgentUnreachableError, InvalidRequestError
from keyholt_protocol.messages import (
    AgentUnlockRequest,
    SecretHistoryResult,
    SecretInfo,
    SecretListResult,
    SecretVersionInfo,
)
from tests.client.scripted import Peer, ScriptedAgent

CANARY = "canary-3b07"
LONE = CANARY + "\udcff"
"""What Python makes of bytes that are no UTF-8, in an argument or a variable."""


@pytest.mark.parametrize(
    "make",
    [
        lambda: invocations.secret_put("a", LONE),
        lambda: invocations.invocation_of(ops.AGENT_UNLOCK, AgentUnlockRequest(), LONE),
        lambda: invocations.slot_add("a", existing=b"x", new=LONE),
        lambda: invocations.slot_change("a", existing=LONE, new=b"x"),
    ],
)
def test_text_without_a_form_in_utf8_is_refused_without_showing_it(
    make: Callable[[], Invocation[object]],
) -> None:
    """A value or a passphrase with a lone surrogate: the error says what to give, and holds no text."""
    with pytest.raises(InvalidRequestError, match="give it as bytes") as caught:
        make()
    assert CANARY not in str(caught.value)
    assert caught.value.__context__ is None
    assert caught.value.details == {"field": "payload"}


LISTED = (SecretInfo(path="a", version=1, created=1),)
TOLD = (SecretVersionInfo(version=5, created=1),)


@pytest.mark.parametrize(
    "call,pages",
    [
        ("list", [SecretListResult(secrets=LISTED, next="b"), SecretListResult(secrets=LISTED, next="b")]),
        ("list", [SecretListResult(secrets=LISTED, next="b"), SecretListResult(secrets=LISTED, next="a")]),
        ("list", [SecretListResult(secrets=LISTED, next="a/../b")]),
        ("history", [SecretHistoryResult(latest=9, versions=TOLD, next=5)] * 2),
        ("history", [SecretHistoryResult(latest=9, versions=TOLD, next=one) for one in (5, 6)]),
        ("history", [SecretHistoryResult(latest=9, versions=TOLD, next=0)]),
        ("history", [SecretHistoryResult(latest=9, versions=TOLD, next=2**31)]),
    ],
)
def test_pages_that_do_not_advance_break_the_protocol(
    tmp_path: Path, call: str, pages: list[SecretListResult | SecretHistoryResult]
) -> None:
    """The call ends, and is no mistake of its caller; a read that lost its connection is made once more."""

    def script(peer: Peer) -> None:
        peer.greet()
        for page in pages:
            peer.answer(peer.request()[0], page)

    def again(peer: Peer) -> None:
        peer.greet()
        peer.answer(peer.request()[0], pages[-1])

    broken = pytest.raises(AgentUnreachableError, match="broke the protocol")
    with (
        ScriptedAgent(tmp_path / "s", script, again) as agent,
        keyholt.connect(agent.address) as client,
        broken,
    ):
        getattr(client, call)("a")
