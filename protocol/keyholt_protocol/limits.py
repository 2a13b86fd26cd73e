"""The limits of the protocol, one place for each; both sides and the reference read them here."""

from __future__ import annotations

from typing import Final

PROTOCOL_VERSION: Final = 1
"""Sent in ``session.hello``; raised when an old peer could misread a new one."""

HELLO_OPERATION: Final = "session.hello"
"""The first request of every connection. Here, so that a connection can do without the registry."""

PREFIX_SIZE: Final = 8
"""Bytes before a header: two big-endian u32, the header's length and the payload's."""

MAX_REQUEST_HEADER: Final = 8 * 1024
"""Bytes. The largest request of this version has less than 7,000."""

MAX_REQUEST_VALUES: Final = 96
"""Values of a request's header: keys, maps and arrays themselves and what is in them, each counted. The
largest request has 47. Decoding is what a peer can make the agent do for nothing: the bound, and the next,
keep it below what a fetch takes."""

MAX_REQUEST_CONTAINERS: Final = 8
"""Maps and arrays of a request's header. The largest request has three."""

MAX_RESPONSE_HEADER: Final = 64 * 1024
"""Bytes. Holds a page of a listing."""

MAX_ENTRIES: Final = 256
"""Entries of one map or array in a header, checked before any of them is built."""

MAX_BEFORE_ID: Final = 16
"""Values that may stand before the id, those within others included, where a header cannot be decoded: the
agent looks no further. What is bounded is the search."""

MAX_VALUE: Final = 16 * 1024 * 1024
"""Bytes of a value. Bounds what one request can ask of locked memory."""

MAX_PAYLOAD: Final = MAX_VALUE + 64 * 1024
"""Bytes of a frame's payload: more than any operation takes, so that a value that is a little too large is a
refusal, and not the end of the connection."""

MAX_EXACT_INTEGER: Final = 2**53 - 1
"""Up to this, above and below zero, a float tells each integer from its neighbours, and may be written in its
place."""

MAX_REQUEST_ID: Final = MAX_EXACT_INTEGER
"""Request ids are 1 to this, exact in every language's number type; 0 marks a connection's error."""

MAX_IN_FLIGHT: Final = 64
"""Requests a peer may have open on one connection; one more is answered with ``busy``."""

FRAME_DEADLINE: Final = 30
"""Seconds for a peer to say hello, to send the rest of a frame that it began, or to take one sent to it."""

MAX_PATH: Final = 512
"""Bytes of UTF-8 of a secret's path."""

MAX_PATH_SEGMENTS: Final = 32
"""Segments of a secret's path."""

MAX_LABELS: Final = 16
"""Labels of one secret version."""

MAX_LABEL_KEY: Final = 64
"""Bytes of UTF-8 of a label's key."""

MAX_LABEL_VALUE: Final = 256
"""Bytes of UTF-8 of a label's value."""

MAX_NAME: Final = 64
"""Characters of the name of a keyslot or a key."""

MAX_CLIENT_NAME: Final = 128
"""Characters of what a client calls itself in ``session.hello``."""

MAX_PASSPHRASE: Final = 4096
"""Bytes of a passphrase."""

PASSPHRASE_LENGTH: Final = 4
"""Bytes before the first of two passphrases in one payload: its length, a big-endian u32."""

MAX_VERSION: Final = 2**31 - 1
"""Versions of a secret are 1 to this; 0 stands for "does not exist" in a compare-and-set."""

MAX_TIME: Final = 253_402_300_799
"""Seconds since 1970-01-01 UTC: the end of the year 9999, the last that every calendar library can show."""

MAX_PAGE: Final = 200
"""Entries in one page of a listing; a page also ends before its header grows over its limit."""
