"""Where the agent is: the forms of an address, and which one holds when none is given.

- Forms: a path, ``unix:PATH``, ``tls://HOST:PORT``, ``tcp://127.0.0.1:PORT``. The last two are read, so that
  a configuration can name them, but this version of Keyholt serves Unix sockets only and says so.
- The order: the argument, else ``$KEYHOLT_ADDRESS``, else ``$XDG_RUNTIME_DIR/keyholt/agent.sock`` if it
  exists, else ``/run/keyholt/agent.sock``.
- `keyholt get` goes through here: nothing is imported but ``os``, not even ``dataclasses``, until an error.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final, NoReturn

__all__ = ["Address", "choose", "parse"]

VARIABLE: Final = "KEYHOLT_ADDRESS"
SYSTEM_SOCKET: Final = "/run/keyholt/agent.sock"
MAX_SOCKET_PATH: Final = 107
"""Bytes of a Unix socket's path that the kernel takes (unix(7): 108 with the final NUL)."""

MAX_PORT: Final = 65535


class Address:
    """An address in one of its forms.

    Attributes:
        kind: ``unix``, ``tcp`` or ``tls``.
        path: the socket's path; empty for ``tcp`` and ``tls``.
        host: the host's name or number; empty for ``unix``.
        port: 1 to 65,535; 0 for ``unix``.
    """

    __slots__ = ("host", "kind", "path", "port")

    def __init__(self, kind: str, path: str = "", host: str = "", port: int = 0) -> None:
        self.kind = kind
        self.path = path
        self.host = host
        self.port = port

    def __str__(self) -> str:
        if self.kind == "unix":
            return self.path
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.kind}://{host}:{self.port}"

    def __repr__(self) -> str:
        return f"<Address {self}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Address):
            return NotImplemented
        return str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def socket_path(self) -> str:
        """The path of the Unix socket to connect to.

        Raises:
            UnsupportedError: the address is none of a Unix socket.
        """
        if self.kind == "unix":
            return self.path
        from keyholt_protocol.errors import UnsupportedError

        raise UnsupportedError(
            f"{self.kind}:// addresses are not served by this version of Keyholt; "
            "give the path of the agent's socket"
        )


def choose(given: str | None = None, environ: Mapping[str, str] = os.environ) -> Address:
    """The address that holds: the one given, the environment's, or the first default that exists.

    Raises:
        InvalidRequestError: what was given has none of the forms.
    """
    text = given or environ.get(VARIABLE)
    if text:
        return parse(text)
    runtime = environ.get("XDG_RUNTIME_DIR")
    if runtime:
        own = f"{runtime}/keyholt/agent.sock"
        if os.path.exists(own):  # importing pathlib takes as long as all of `keyholt get`
            return parse(own)
    return parse(SYSTEM_SOCKET)


def parse(text: str) -> Address:
    """The address that ``text`` writes.

    Raises:
        InvalidRequestError: it has none of the forms; says which part is wrong.
    """
    scheme, mark, rest = text.partition("://")
    if mark and scheme in {"tcp", "tls"}:
        return _network(scheme, rest)
    if mark and scheme.isalnum():
        _refuse(
            f"the address has the unknown scheme {scheme!r}; known are a path, unix:PATH, tls:// and tcp://"
        )
    path = text.removeprefix("unix:")
    if not path or "\0" in path:
        _refuse("the address has no path; write it like unix:/run/keyholt/agent.sock")
    if len(os.fsencode(path)) > MAX_SOCKET_PATH:
        _refuse(
            f"the socket's path is longer than the {MAX_SOCKET_PATH} bytes that the kernel takes; shorten it"
        )
    return Address("unix", path=path)


def _network(scheme: str, rest: str) -> Address:
    host, _, port = rest.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        _refuse("an IPv6 number in an address stands in brackets, like tls://[::1]:7070")
    if (
        not host
        or "/" in rest
        or not (port.isascii() and port.isdigit())
        or not 0 < int(port[:6]) <= MAX_PORT
    ):
        _refuse(f"the address must be like {scheme}://HOST:PORT, with a port from 1 to 65535")
    if scheme == "tcp" and host not in {"127.0.0.1", "::1"}:
        _refuse("tcp:// is not encrypted and goes to 127.0.0.1 only; use tls:// for another host")
    return Address(scheme, host=host, port=int(port))


def _refuse(message: str) -> NoReturn:
    from keyholt_protocol.errors import InvalidRequestError

    raise InvalidRequestError(message)
