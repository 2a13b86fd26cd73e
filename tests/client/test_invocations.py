"""What a request is refused for before anything is sent, and what the refusal holds."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from keyholt import invocations
from keyholt.invocations import Invocation
from keyholt_protocol import operations as ops
from keyholt_protocol.errors import InvalidRequestError
from keyholt_protocol.messages import AgentUnlockRequest

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
