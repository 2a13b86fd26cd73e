"""What the agent refuses of what a client sends: each rule, the code of its error, and whether it ends the
connection. The one table of it; ``docs/protocol.md`` shows it.

- A request whose id can be read, and is its own, is refused under that id, and nothing ends. The connection
  ends where nobody could tell whose answer an error is, where a frame ends, or who speaks.
- It is a table for readers and tests, not what the agent decides by: every row of the document is provoked on
  a real agent by a client that shares no code with it (``tests/protocol/test_rules.py``).
- Time and number of connections are not in it: they are no property of what is sent.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from keyholt_protocol.errors import ErrorCode as E
from keyholt_protocol.limits import (
    MAX_IN_FLIGHT,
    MAX_PAGE,
    MAX_PAYLOAD,
    MAX_REQUEST_CONTAINERS,
    MAX_REQUEST_HEADER,
    MAX_REQUEST_ID,
    MAX_REQUEST_VALUES,
)

__all__ = ["RULES", "Rule"]


class Rule(NamedTuple):
    """One row. ``broken``: what a client sends. ``ends``: whether that ends the connection."""

    broken: str
    code: E
    ends: bool


RULES: Final = (
    Rule("H is 0", E.INVALID_REQUEST, ends=True),
    Rule(f"H is more than {MAX_REQUEST_HEADER}", E.TOO_LARGE, ends=True),
    Rule(f"P is more than {MAX_PAYLOAD}", E.TOO_LARGE, ends=True),
    Rule("the header is no map", E.INVALID_REQUEST, ends=True),
    Rule("no `id` can be read", E.INVALID_REQUEST, ends=True),
    Rule(f"`id` is no integer from 1 to {MAX_REQUEST_ID}", E.INVALID_REQUEST, ends=True),
    Rule("`id` is that of a request in flight", E.INVALID_REQUEST, ends=True),
    Rule("no `session.hello` was accepted, and it is another request", E.INVALID_REQUEST, ends=True),
    Rule("`session.hello` has a version that the agent does not speak", E.UNSUPPORTED, ends=False),
    Rule("`session.hello` comes again after one that was accepted", E.INVALID_REQUEST, ends=False),
    Rule("the header is cut short, or bytes follow its map", E.INVALID_REQUEST, ends=False),
    Rule("a map, at any depth, has a key twice", E.INVALID_REQUEST, ends=False),
    Rule("a key is not text", E.INVALID_REQUEST, ends=False),
    Rule("a text is not valid UTF-8", E.INVALID_REQUEST, ends=False),
    Rule("there is a byte string or an extension type", E.INVALID_REQUEST, ends=False),
    Rule(f"the header has more than {MAX_REQUEST_VALUES} values", E.TOO_LARGE, ends=False),
    Rule(f"the header has more than {MAX_REQUEST_CONTAINERS} maps and arrays", E.TOO_LARGE, ends=False),
    Rule("the header has other keys than `id`, `op` and `args`", E.INVALID_REQUEST, ends=False),
    Rule("`op` is not text, or `args` is no map", E.INVALID_REQUEST, ends=False),
    Rule("there is no such operation", E.UNSUPPORTED, ends=False),
    Rule("a field is unknown, but in a greeting", E.INVALID_REQUEST, ends=False),
    Rule("a field without a default is missing", E.INVALID_REQUEST, ends=False),
    Rule("a value has another type than its field; nil has that of none", E.INVALID_REQUEST, ends=False),
    Rule("a number is outside its range", E.INVALID_REQUEST, ends=False),
    Rule(f"`limit` is more than {MAX_PAGE}", E.TOO_LARGE, ends=False),
    Rule("a name, a path, a prefix or a text is not of its form", E.INVALID_REQUEST, ends=False),
    Rule("a name, a path, a prefix or a text is too long", E.TOO_LARGE, ends=False),
    Rule("a path has too many segments, or a secret too many labels", E.TOO_LARGE, ends=False),
    Rule("there is a payload, and the operation takes none", E.INVALID_REQUEST, ends=False),
    Rule("the payload is over the operation's limit", E.TOO_LARGE, ends=False),
    Rule("a passphrase is empty, or the second one missing", E.INVALID_REQUEST, ends=False),
    Rule("a passphrase is too long", E.TOO_LARGE, ends=False),
    Rule(f"more than {MAX_IN_FLIGHT} requests are in flight", E.BUSY, ends=False),
)
"""In the order in which a reader meets them: the frame, the header, the greeting, the fields, the payload."""
