"""Where the agent is: the forms of an address, and which one holds when none is given.

- Forms: a path, ``unix:PATH``, ``fd:N``, ``tls://HOST:PORT``, ``tcp://127.0.0.1:PORT``. The last two are
  read, so that a configuration can name them, but this version of Keyholt does not speak over them and says
  so.
- ``fd:N`` is a descriptor that this program has inherited, from which it takes connections
  (``keyholt.handout``): the way to the agent out of a sandbox. A path of that name is ``unix:fd:N``.
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

__all__ = ["VARIABLE", "Address", "choose", "parse"]

VARIABLE: Final = "KEYHOLT_ADDRESS"
"""The environment's variable for an address."""

SYSTEM_SOCKET: Final = "/run/keyholt/agent.sock"
MAX_SOCKET_PATH: Final = 107
"""Bytes of a Unix socket's path that the kernel takes (unix(7): 108 with the final NUL)."""

MAX_PORT: Final = 65535
MAX_DESCRIPTOR: Final = 2**31 - 1
"""The kernel counts descriptors in a C int."""


class Address:
    """An address in one of its forms.

    Attributes:
        kind: ``unix``, ``fd``, ``tcp`` or ``tls``.
        path: of ``unix``, the socket's path; otherwise empty.
        descriptor: of ``fd``, its number; otherwise -1.
        host: of ``tcp`` and ``tls``, the host's name or number; otherwise empty.
        port: of ``tcp`` and ``tls``, 1 to 65,535; otherwise 0.
    """

    __slots__ = ("descriptor", "host", "kind", "path", "port")

    def __init__(
        self, kind: str, *, path: str = "", descriptor: int = -1, host: str = "", port: int = 0
    ) -> None:
        self.kind = kind
        self.path = path
        self.descriptor = descriptor
        self.host = host
        self.port = port

    def __str__(self) -> str:
        if self.kind == "unix":  # a relative path could be taken for another form
            return self.path if self.path.startswith("/") else f"unix:{self.path}"
        if self.kind == "fd":
            return f"fd:{self.descriptor}"
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


def choose(given: str | os.PathLike[str] | None = None, environ: Mapping[str, str] = os.environ) -> Address:
    """The address that holds: the one given, the environment's, or the first default that exists.

    Raises:
        InvalidRequestError: what was given has none of the forms.
        TypeError: it is neither text nor a path.
    """
    text = _text(given) or environ.get(VARIABLE)
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
        known = "a path, unix:PATH, fd:N, tls:// and tcp://"
        _refuse(f"the address has the unknown scheme {scheme!r}; known are {known}")
    if text.startswith("fd:"):
        return _descriptor(text.removeprefix("fd:"))
    path = text.removeprefix("unix:")
    if not path or "\0" in path:
        _refuse("the address has no path; write it like unix:/run/keyholt/agent.sock")
    if len(os.fsencode(path)) > MAX_SOCKET_PATH:
        _refuse(
            f"the socket's path is longer than the {MAX_SOCKET_PATH} bytes that the kernel takes; shorten it"
        )
    return Address("unix", path=path)


def _text(given: str | os.PathLike[str] | None) -> str:
    """An address as text; nothing for ``None``. A ``Path`` is one, even where it looks like another form."""
    if given is None or isinstance(given, str):
        return given or ""
    try:
        path: object = os.fspath(given)
    except TypeError:
        path = None
    if not isinstance(path, str):
        raise TypeError(f"the address must be text or a path, not {type(given).__name__}")
    return path if path.startswith("/") else f"./{path}"


def _descriptor(number: str) -> Address:
    digits = number.isascii() and number.isdigit() and len(number) <= len(str(MAX_DESCRIPTOR))
    if not digits or int(number) > MAX_DESCRIPTOR:
        _refuse("after fd: in an address stands the number of an inherited descriptor, like fd:3")
    return Address("fd", descriptor=int(number))


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
