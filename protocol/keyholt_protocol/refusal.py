"""The frame of an error, as the agent sends it: under a request's id, or under 0 about the connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from keyholt_protocol.codec import pack_header
from keyholt_protocol.framing import frame_head
from keyholt_protocol.limits import MAX_RESPONSE_HEADER

if TYPE_CHECKING:
    from keyholt_protocol.errors import KeyholtError

__all__ = ["error_frame"]

_MAX_MESSAGE: Final = 2000
"""Characters of an error's message that are sent: in any encoding less than a header may hold."""


def error_frame(request_id: int, error: KeyholtError) -> bytes:
    """The whole frame; an error has no payload."""
    # A message may name a path of the agent's file system, which need not be text.
    message = str(error)[:_MAX_MESSAGE].encode(errors="backslashreplace").decode()
    body: dict[str, object] = {
        "code": error.code.wire_name,
        "message": message,
        "retryable": error.retryable,
    }
    if error.details:
        body["details"] = error.details
    return frame_head(pack_header({"id": request_id, "ok": False, "error": body}), 0, MAX_RESPONSE_HEADER)
