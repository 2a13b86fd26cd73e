"""What the system refuses to a client, as errors of Keyholt: the one place that reads their numbers.

Each error says what to do about it and has the ``OSError`` as its cause, for programs that log it.
"""

from __future__ import annotations

import errno
from typing import Final

from keyholt_protocol.errors import (
    AgentUnreachableError,
    DeniedError,
    KeyholtError,
    ResourceExhaustedError,
)

__all__ = ["has_gone", "of_opening", "of_socket"]

_SANDBOX: Final = (
    "this program may open no socket of its own ({}); start it with `keyholt run --share-agent`, which lets "
    "it inherit a way to the agent"
)
_EXHAUSTED: Final = {
    errno.EMFILE: "this program has as many files open as it may ({}); close some, or raise the limit, which "
    "`ulimit -n` shows and sets",
    errno.ENFILE: "this machine has as many files open as it may ({}); end programs, or raise the limit, "
    "which `sysctl fs.file-max` shows and sets",
    errno.ENOBUFS: "the kernel has no memory for a connection ({}); free some, and try again",
    errno.ENOMEM: "the kernel has no memory for a connection ({}); free some, and try again",
}
"""What there is too little of on the client's side, with the system's words in it."""

_NO_SOCKETS: Final = {errno.EACCES, errno.EPERM, errno.EAFNOSUPPORT}
"""What socket(2) answers where a sandbox forbids it: by seccomp, or ``RestrictAddressFamilies=``."""


def of_socket(error: OSError) -> KeyholtError:
    """Of a socket that could not be made."""
    if error.errno in _NO_SOCKETS:
        return DeniedError(_SANDBOX.format(error.strerror))
    return of_opening(error, "")


def of_opening(error: OSError, where: str) -> KeyholtError:
    """Of a connection that could not be had; ``where`` is the address."""
    sentence = _EXHAUSTED.get(error.errno or 0)
    if sentence is not None:
        return ResourceExhaustedError(sentence.format(error.strerror))
    at = f" at {where}" if where else ""
    said = error.strerror or str(error)
    return AgentUnreachableError(
        f"the agent{at} cannot be reached ({said}); give the path of its socket as --address"
    )


def has_gone(error: OSError) -> bool:
    """Whether a connection's failure only says that the other side has closed it."""
    return isinstance(error, ConnectionError) or error.errno == errno.ENOTCONN
