"""Where the agent is: the forms of an address, and which one holds when none is given.

- Forms: a path, ``unix:PATH``, ``fd:N``, ``tls://HOST:PORT``, ``tcp://127.0.0.1:PORT``. The last two are
  read, so that a configuration can name them, but this version of Keyholt does not speak over them and says
  so.
- ``fd:N`` is a descriptor that this program has inherited, from which it takes connections
  (``keyholt.handout``): the way to the agent out of a sandbox. A path of that name is ``unix:fd:N``.
- ``unix:PATH`` and ``fd:N`` may end in a query, ``?uid=N``: the uid that the server must run as
  (``keyholt.peer`` says who is trusted without it). The query begins at the last question mark; a path that
  holds one is written as it is, without ``unix:``, or gets another one at its end.
- The order: the argument, else ``$KEYHOLT_ADDRESS``, else ``$XDG_RUNTIME_DIR/keyholt/agent.sock`` if it
  exists, else ``/run/keyholt/agent.sock``.
- `keyholt get` goes through here: nothing is imported but built-in modules, until an error; not even ``os``,
  which takes 1.5 ms where Python's start has not brought it.
"""

from __future__ import annotations

import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike
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

MAX_UID: Final = 2**32 - 2
"""The kernel's uids are 32 bits wide, and the highest number stands for none (setuid(2))."""


class Address:
    """An address in one of its forms.

    Attributes:
        kind: ``unix``, ``fd``, ``tcp`` or ``tls``.
        path: of ``unix``, the socket's path; otherwise empty.
        descriptor: of ``fd``, its number; otherwise -1.
        host: of ``tcp`` and ``tls``, the host's name or number; otherwise empty.
        port: of ``tcp`` and ``tls``, 1 to 65,535; otherwise 0.
        uid: of ``unix`` and ``fd``, the uid that the server must run as; ``None`` where the address does not
            say.
    """

    __slots__ = ("descriptor", "host", "kind", "path", "port", "uid")

    def __init__(
        self,
        kind: str,
        *,
        path: str = "",
        descriptor: int = -1,
        host: str = "",
        port: int = 0,
        uid: int | None = None,
    ) -> None:
        self.kind = kind
        self.path = path
        self.descriptor = descriptor
        self.host = host
        self.port = port
        self.uid = uid

    def __str__(self) -> str:
        query = "" if self.uid is None else f"?uid={self.uid}"
        if self.kind == "unix":
            if self.path.startswith("/") and not query:
                return self.path
            # A relative path could be taken for another form, and what follows its question mark for a query.
            return f"unix:{self.path}{query or ('?' if '?' in self.path else '')}"
        if self.kind == "fd":
            return f"fd:{self.descriptor}{query}"
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


def choose(given: str | PathLike[str] | None = None, environ: Mapping[str, str] | None = None) -> Address:
    """The address that holds: the one given, the environment's, or the first default that exists.

    Args:
        given: an address in words.
        environ: the variables that count; without it, those of this process.

    Raises:
        InvalidRequestError: what was given has none of the forms.
        TypeError: it is neither text nor a path.
    """
    variable = _variable if environ is None else environ.get
    text = _text(given) or variable(VARIABLE)
    if text:
        return parse(text)
    runtime = variable("XDG_RUNTIME_DIR")
    if runtime:
        own = f"{runtime}/keyholt/agent.sock"
        try:
            posix.stat(own)
            return parse(own)
        except (OSError, ValueError):  # it is not there, or no path can be like that
            pass
    return parse(SYSTEM_SOCKET)


def _variable(name: str) -> str | None:
    os = sys.modules.get("os")
    if os is not None:  # where a program may have set it
        found: str | None = os.environ.get(name)
        return found
    value = posix.environ.get(name.encode())
    return None if value is None else value.decode(sys.getfilesystemencoding(), "surrogateescape")


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
    path, uid = _queried(text.removeprefix("unix:")) if text.startswith("unix:") else (text, None)
    if not path or "\0" in path:
        _refuse("the address has no path; write it like unix:/run/keyholt/agent.sock")
    if len(path.encode(sys.getfilesystemencoding(), "surrogateescape")) > MAX_SOCKET_PATH:
        _refuse(
            f"the socket's path is longer than the {MAX_SOCKET_PATH} bytes that the kernel takes; shorten it"
        )
    return Address("unix", path=path, uid=uid)


def _text(given: str | PathLike[str] | None) -> str:
    """An address as text; nothing for ``None``. A ``Path`` is one, even where it looks like another form."""
    if given is None or isinstance(given, str):
        return given or ""
    try:
        path: object = posix.fspath(given)
    except TypeError:
        path = None
    if not isinstance(path, str):
        raise TypeError(f"the address must be text or a path, not {type(given).__name__}")
    return path if path.startswith("/") else f"./{path}"


def _queried(text: str) -> tuple[str, int | None]:
    """What stands before the query, and the uid that the query asks for."""
    before, mark, query = text.rpartition("?")
    if not mark:
        return text, None
    asked: dict[str, str] = {}
    for part in query.split("&") if query else ():
        name, _, value = part.partition("=")
        if name != "uid":
            _refuse(
                f"the address asks for {name!r} after its question mark; all that it can ask for is uid=N, "
                "and a path that holds a question mark is written without unix:"
            )
        if name in asked:
            _refuse(f"the address asks for {name!r} twice; say it once")
        asked[name] = value
    return before, _uid(asked["uid"]) if asked else None


def _uid(number: str) -> int:
    digits = number.isascii() and number.isdigit() and len(number) <= len(str(MAX_UID))
    if not digits or str(int(number)) != number or int(number) > MAX_UID:
        _refuse("after uid= in an address stands a user's number, like uid=998; `id -u NAME` tells it")
    return int(number)


def _descriptor(text: str) -> Address:
    number, uid = _queried(text)
    digits = number.isascii() and number.isdigit() and len(number) <= len(str(MAX_DESCRIPTOR))
    if not digits or int(number) > MAX_DESCRIPTOR:
        _refuse("after fd: in an address stands the number of an inherited descriptor, like fd:3")
    return Address("fd", descriptor=int(number), uid=uid)


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
