"""What a peer may send that costs the agent most: the frames that are allowed, each in its worst form.

Found by measuring. What decoding takes is bounded by the number of values, so it is those that come near to
the bounds, with the id as far behind as it is still looked for.
"""

from __future__ import annotations

from typing import Final

import msgpack

from keyholt_protocol.limits import MAX_BEFORE_ID, MAX_REQUEST_CONTAINERS, MAX_REQUEST_HEADER
from tests.support.wire import frame, request_frame

__all__ = ["WORST"]


def _late_id() -> bytes:
    """A header that is refused when it has been decoded, for a key stands twice, and then is searched."""
    count = MAX_BEFORE_ID - 4
    before = b"\xa1z\xdc" + count.to_bytes(2, "big") + b"\x01" * count
    return frame(b"\x83" + before + b"\xa1z\x01" + bytes(msgpack.packb("id")) + b"\x07")


def _many_maps() -> bytes:
    """As many maps as there may be, with as many entries as there may be."""
    maps = [{f"{number}{key}": "" for key in range(3)} for number in range(MAX_REQUEST_CONTAINERS - 3)]
    return request_frame(7, "secret.get", {"path": maps})


def _long_text() -> bytes:
    """A header as long as may be, of characters that need more than a byte."""
    return request_frame(7, "secret.get", {"path": "\U0001d7d8" * ((MAX_REQUEST_HEADER - 60) // 4)})


WORST: Final = {
    "late id": _late_id(),
    "many maps": _many_maps(),
    "long text": _long_text(),
    "least": request_frame(7, "", {}),
    "odd path": request_frame(7, "secret.get", {"path": "/".join(["\U0001d7d8"] * 31)}),
    "fetch": request_frame(7, "secret.get", {"path": "none"}),
    "status": request_frame(7, "agent.status", {}),
    "page": request_frame(7, "secret.list", {}),
}
