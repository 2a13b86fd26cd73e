"""`get` and `run` without the library: a few requests, written by hand, over a raw socket.

``import socket`` costs as much as Python's own start, ``dataclasses`` twice that. So this module imports
``_socket``, packs three shapes of request itself, and of an answer's header reads only how it begins.
Anything but success ends in ``UnusualError``: the caller then asks again through the library, which reports
precisely.

- An answer's header must begin as the agent writes it: a map of three, ``id``, ``ok`` true, ``result``. A
  header in another order is unusual, not wrong. The rest of it is not looked at; the value is the payload.
- Names are not checked here: the agent checks them, and its refusal is unusual.
- A value is received into a ``bytearray`` of its own, which the caller wipes.
"""

from __future__ import annotations

import _socket

from keyholt.cli.descriptors import STDERR, write_all
from keyholt.peer import require_trusted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    from keyholt.address import Address

__all__ = [
    "SilentError",
    "UnusualError",
    "fetch",
    "pack_get",
    "pick_from",
    "read_head",
    "tell_overdue",
    "tell_silent",
]

CONNECT_TIMEOUT: Final = 10.0
"""Seconds for the connection and its greeting."""

CALL_TIMEOUT: Final = 60.0
"""Seconds for an answer. An agent that waits for a person is not asked again: that would be two questions."""

LEFT_BEHIND: Final = 1.0
"""Seconds to wait for another connection when the one that was handed out had ended; the agent answers in
much less."""

BATCH: Final = 60
"""Requests in flight at once: with the greeting below what an agent takes, and ids below 128, one byte
each."""

HELLO: Final = b"\x83\xa2id\x01\xa2op\xadsession.hello\xa4args\x82\xa7version\x01\xa6client\xaekeyholt-python"
"""The header of the first request: {"id": 1, "op": "session.hello", "args": {"version": 1, "client":
...}}."""

_ID: Final = b"\x83\xa2id"
_OK: Final = b"\xa2ok\xc3\xa6result"
_OK_AT: Final = len(_ID) + 1
_BIGGEST_ID: Final = 0x7F
"""msgpack writes integers up to this as one byte."""

MAX_PATH: Final = 512
MAX_VERSION: Final = 2**31 - 1
MAX_HEADER: Final = 64 * 1024
MAX_VALUE: Final = 16 * 1024 * 1024
# These four, and the greeting, are the protocol's, and the times the library's; importing them would take
# longer than the fetch. A test holds them against those.


class UnusualError(Exception):
    """Something other than plain success; ask again through the library."""


class SilentError(UnusualError):
    """The agent took the connection and did not answer the greeting; asking again would take as long."""


def fetch(address: Address, wanted: Sequence[tuple[str, int | None]]) -> list[bytearray]:
    """The values of secrets, by path and version, in the order asked for.

    Raises:
        TimeoutError: the agent did not answer in time.
        SilentError: it did not even answer the greeting.
        AgentUntrustedError: the server is not trusted, and was sent nothing.
        UnusualError: not all of them could be had, for another reason.
    """
    try:
        sock = _connect(address)
        try:
            values: list[bytearray] = []
            for start in range(0, len(wanted), BATCH):
                values += _exchange(sock, wanted[start : start + BATCH], greet=start == 0)
            return values
        finally:
            sock.close()
    except TimeoutError:
        raise
    except (OSError, UnicodeError):
        raise UnusualError from None


def pick_from(value: bytearray, field: str, path: str) -> bytearray:
    """A field of a value, which is wiped.

    Raises:
        KeyholtError: it has no such field.
    """
    from keyholt.field import pick

    try:
        return pick(value, field, path)
    finally:
        value[:] = bytes(len(value))


def tell_overdue() -> int:
    """Say that the agent did not answer in time; gives the exit status."""
    said = (
        f"keyholt: the agent has not answered within {CALL_TIMEOUT:g} seconds; ask again, or give it longer"
    )
    write_all(STDERR, f"{said} with --timeout\n".encode())
    return 1


def tell_silent(address: Address) -> int:
    """Say that the agent does not answer at all; gives the exit status."""
    from keyholt.cli.dispatch import report
    from keyholt.connecting import no_greeting

    return report(no_greeting(address), as_json=False)


def _connect(address: Address) -> _socket.socket:
    if address.kind == "fd":
        return _take(address)
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        sock.settimeout(0)  # the full path waits for room in the agent's queue of connections
        sock.connect(address.path)
        require_trusted(sock, address)
        return sock
    except BaseException:
        sock.close()
        raise


def _take(address: Address) -> _socket.socket:
    """A connection from an inherited descriptor."""
    from select import POLLIN, poll

    from keyholt.handout import HandOut, HandOutError, has_ended

    try:
        hand_out = HandOut(address.descriptor)
        try:
            require_trusted(hand_out.sock, address)
            readable = poll()
            readable.register(hand_out.fileno(), POLLIN)
            patience = CONNECT_TIMEOUT
            asked = hand_out.ask()
            while asked and readable.poll(patience * 1000):
                sock = hand_out.take()
                if sock is None:
                    continue
                try:
                    require_trusted(sock, address)
                except BaseException:
                    sock.close()
                    raise
                if not has_ended(sock):
                    return sock
                sock.close()
                patience = LEFT_BEHIND
        finally:
            hand_out.close()
    except HandOutError:
        pass
    raise UnusualError


def _exchange(
    sock: _socket.socket, wanted: Sequence[tuple[str, int | None]], *, greet: bool
) -> list[bytearray]:
    requests = [pack_get(number, path, version) for number, (path, version) in enumerate(wanted, 2)]
    sock.settimeout(CONNECT_TIMEOUT)
    sock.sendall(b"".join([_frame(HELLO), *requests] if greet else requests))
    if greet:
        _receive_greeting(sock)
    sock.settimeout(CALL_TIMEOUT)
    answers = dict(_receive_answer(sock) for _ in wanted)  # they may overtake each other
    try:
        return [answers[number] for number, _ in enumerate(wanted, 2)]
    except KeyError:
        raise UnusualError from None


def _receive_greeting(sock: _socket.socket) -> None:
    try:
        number, _ = _receive_answer(sock)
    except TimeoutError:
        raise SilentError from None
    if number != 1:
        raise UnusualError


def pack_get(number: int, path: str, version: int | None) -> bytes:
    """The frame of a ``secret.get`` request.

    Raises:
        UnusualError: the path or the version is outside the limits.
    """
    text = path.encode()
    if not 0 < len(text) <= MAX_PATH or (version is not None and not 0 < version <= MAX_VERSION):
        raise UnusualError
    args = (
        b"\x81\xa4path\xda"
        if version is None
        else b"\x82\xa7version\xce" + version.to_bytes(4, "big") + b"\xa4path\xda"
    )
    return _frame(
        _ID + bytes((number,)) + b"\xa2op\xaasecret.get\xa4args" + args + len(text).to_bytes(2, "big") + text
    )


def read_head(header: bytes | bytearray) -> int:
    """The id of the request that a header answers with success.

    Raises:
        UnusualError: it answers otherwise, or is written in another way.
    """
    number = header[len(_ID)] if len(header) > _OK_AT else 0
    if not header.startswith(_ID) or not header.startswith(_OK, _OK_AT) or not 0 < number <= _BIGGEST_ID:
        raise UnusualError
    return number


def _frame(header: bytes) -> bytes:
    return len(header).to_bytes(4, "big") + b"\0\0\0\0" + header


def _receive_answer(sock: _socket.socket) -> tuple[int, bytearray]:
    prefix = _receive(sock, 8)
    header_size = int.from_bytes(prefix[:4], "big")
    payload_size = int.from_bytes(prefix[4:], "big")
    if not 0 < header_size <= MAX_HEADER or payload_size > MAX_VALUE:
        raise UnusualError
    number = read_head(_receive(sock, header_size))
    return number, _receive(sock, payload_size)


def _receive(sock: _socket.socket, size: int) -> bytearray:
    data = bytearray(size)
    view = memoryview(data)
    filled = 0
    while filled < size:
        received = sock.recv_into(view[filled:])
        if not received:
            raise UnusualError
        filled += received
    return data
