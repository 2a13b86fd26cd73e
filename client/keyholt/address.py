"""Where the agent is: the forms of an address, and which one holds when none is given.

- Forms: a path, ``unix:PATH`` and ``fd:N``. A refusal names these and no other.
- ``fd:N`` is a descriptor that this program has inherited, from which it takes connections
  (``keyholt.handout``): the way to the agent out of a sandbox. A path of that name is ``unix:fd:N``.
- ``unix:PATH`` and ``fd:N`` may end in a query, ``?uid=N``: the uid that the server must run as
  (``keyholt.peer`` says who is trusted without it). The query begins at the last question mark; a path that
  holds one is written as it is, without ``unix:``, or gets another one at its end.
- The order: the argument, else ``$KEYHOLT_ADDRESS``, else ``$XDG_RUNTIME_DIR/keyholt/agent.sock`` if it
  exists, else ``/run/keyholt/agent.sock``. Where that variable is not set, as after `su -` and in cron, this
  user's ``/run/user/UID`` stands for it, if it is there and theirs.
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

__all__ = ["VARIABLE", "Address", "choose", "own_place", "parse"]

VARIABLE: Final = "KEYHOLT_ADDRESS"
"""The environment's variable for an address."""

SYSTEM_SOCKET: Final = "/run/keyholt/agent.sock"
RUNTIME_DIRECTORIES: Final = "/run/user"
"""Where a user's first login makes a directory named by the uid, and gives it to them (pam_systemd(8))."""

MAX_SOCKET_PATH: Final = 107
"""Bytes of a Unix socket's path that the kernel takes (unix(7): 108 with the final NUL)."""

MAX_DESCRIPTOR: Final = 2**31 - 1
"""The kernel counts descriptors in a C int."""

MAX_UID: Final = 2**32 - 2
"""The kernel's uids are 32 bits wide, and the highest number stands for none (setuid(2))."""


class Address:
    """An address in one of its forms.

    Attributes:
        kind: ``unix`` or ``fd``.
        path: of ``unix``, the socket's path; otherwise empty.
        descriptor: of ``fd``, its number; otherwise -1.
        uid: the uid that the server must run as; ``None`` where the address does not say.
    """

    __slots__ = ("descriptor", "kind", "path", "uid")

    def __init__(self, kind: str, *, path: str = "", descriptor: int = -1, uid: int | None = None) -> None:
        self.kind = kind
        self.path = path
        self.descriptor = descriptor
        self.uid = uid

    def __str__(self) -> str:
        query = "" if self.uid is None else f"?uid={self.uid}"
        if self.kind == "unix":
            if self.path.startswith("/") and not query:
                return self.path
            # A relative path could be taken for another form, and what follows its question mark for a query.
            return f"unix:{self.path}{query or ('?' if '?' in self.path else '')}"
        return f"fd:{self.descriptor}{query}"

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
    own = own_place(variable("XDG_RUNTIME_DIR"))
    if own is not None:
        try:
            posix.stat(own)
            return parse(own)
        except (OSError, ValueError):  # it is not there, or no path can be like that
            pass
    return parse(SYSTEM_SOCKET)


def own_place(runtime: str | None) -> str | None:
    """Where an agent of this user's own is looked for; ``None`` where they have no such place.

    Args:
        runtime: the value of ``XDG_RUNTIME_DIR``; without one the directory that a login made is taken, if it
            belongs to this user.
    """
    if not runtime:
        uid = posix.geteuid()
        runtime = f"{RUNTIME_DIRECTORIES}/{uid}"
        try:
            if posix.stat(runtime).st_uid != uid:
                return None
        except OSError:
            return None
    return f"{runtime}/keyholt/agent.sock"


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
    scheme, mark, _ = text.partition("://")
    if mark and scheme.isalnum():
        _refuse(f"the address begins with {scheme}://, which is not served; write a path, unix:PATH or fd:N")
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


def _refuse(message: str) -> NoReturn:
    from keyholt_protocol.errors import InvalidRequestError

    raise InvalidRequestError(message)
