"""Every error that can cross the wire, and those that a client or the wire can raise by itself.

::

    KeyholtError                      .code  .retryable  .details
    ├── InvalidRequestError           the request is malformed
    ├── UnsupportedError              no such operation or protocol version
    ├── UninitialisedError            there is no store yet
    ├── LockedError                   the root key is not in memory
    ├── UnlockFailedError             no keyslot opened with what was given
    ├── DeniedError                   this peer may not do that
    ├── NotFoundError                 no such thing, or deleted
    ├── AlreadyExistsError            the name is taken
    ├── ConflictError                 what is there is not what was expected
    ├── ContentionError               somebody else was faster: try again
    ├── TooLargeError                 over a limit of the protocol, or of the agent for good
    ├── ResourceExhaustedError        out of locked memory, connections or room
    ├── BusyError                     a queue is full: try again
    ├── RateLimitedError              too many attempts: wait
    ├── DeadlineExceededError         not done in time
    ├── TokenUnavailableError         the hardware token does not answer
    ├── StoreUnavailableError         the store cannot be read or written
    ├── AuditUnavailableError         the audit log cannot be written
    ├── IntegrityError                stored bytes fail authentication
    ├── InternalError                 a defect of the agent
    ├── AgentUnreachableError         (client only) nobody answers at the address
    └── AgentUntrustedError           (client only) who answers there is not trusted
    ProtocolError                     the byte stream broke the rules of the wire
    ├── LocalProtocolError            this side misused the connection object
    └── RemoteProtocolError           the other side sent what it may not

- A message names codes, paths, versions and limits; never a value, a passphrase or a key.
- A message is for people. What a program may want to know is in the details, by the names in ``DETAILS``.
- A code, its number and its class are one fact, kept in ``ERRORS``.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final, NamedTuple

__all__ = [
    "DETAILS",
    "ERRORS",
    "AgentUnreachableError",
    "AgentUntrustedError",
    "AlreadyExistsError",
    "AuditUnavailableError",
    "BusyError",
    "ConflictError",
    "ContentionError",
    "DeadlineExceededError",
    "DeniedError",
    "Detail",
    "ErrorCode",
    "IntegrityError",
    "InternalError",
    "InvalidRequestError",
    "KeyholtError",
    "LocalProtocolError",
    "LockedError",
    "NotFoundError",
    "ProtocolError",
    "RateLimitedError",
    "RemoteProtocolError",
    "ResourceExhaustedError",
    "StoreUnavailableError",
    "TokenUnavailableError",
    "TooLargeError",
    "UninitialisedError",
    "UnlockFailedError",
    "UnsupportedError",
    "error_from_wire",
]


class ErrorCode(IntEnum):
    """The numbers of the error codes; on the wire stands the name in lower case (``wire_name``).

    A number is given once and never again. Those from 100 on are a client's own and never on the wire. A code
    is shown by its name, however it is printed.
    """

    INVALID_REQUEST = 1
    UNSUPPORTED = 2
    UNINITIALISED = 3
    LOCKED = 4
    UNLOCK_FAILED = 5
    DENIED = 6
    NOT_FOUND = 7
    ALREADY_EXISTS = 8
    CONFLICT = 9
    CONTENTION = 10
    TOO_LARGE = 11
    RESOURCE_EXHAUSTED = 12
    BUSY = 13
    RATE_LIMITED = 14
    DEADLINE_EXCEEDED = 15
    TOKEN_UNAVAILABLE = 16
    STORE_UNAVAILABLE = 17
    AUDIT_UNAVAILABLE = 18
    INTEGRITY = 19
    INTERNAL = 20

    AGENT_UNREACHABLE = 100
    AGENT_UNTRUSTED = 101

    @property
    def wire_name(self) -> str:
        return self.name.lower()

    def __str__(self) -> str:
        return self.wire_name

    def __repr__(self) -> str:
        return self.wire_name

    def __format__(self, spec: str) -> str:
        return format(self.wire_name, spec)


class KeyholtError(Exception):
    """What every error of Keyholt derives from.

    Attributes:
        code: the error's code, also its name on the wire.
        meaning: one sentence, the same for every error of this code; the message where none is given.
        retryable: whether the same request may succeed later without a change.
        details: what a program may want to know of it; names and types are those of ``DETAILS``, and a newer
            agent may send others.
    """

    code: ErrorCode = ErrorCode.INTERNAL
    meaning: str = "The agent met a defect of its own; its log says where."
    retryable: bool = False

    def __init__(self, message: str = "", *, details: Mapping[str, object] | None = None) -> None:
        # Messages are clauses, whoever writes them: they follow a program's name and precede a remedy.
        super().__init__(message or self.meaning[:1].lower() + self.meaning[1:].removesuffix("."))
        self.details: Mapping[str, object] = dict(details or {})


class InvalidRequestError(KeyholtError):
    code = ErrorCode.INVALID_REQUEST
    meaning = "The request is malformed; correct it before sending it again."


class UnsupportedError(KeyholtError):
    code = ErrorCode.UNSUPPORTED
    meaning = "This agent knows no such operation, or not this protocol version."


class UninitialisedError(KeyholtError):
    code = ErrorCode.UNINITIALISED
    meaning = "There is no store yet; create one with `keyholt init`."


class LockedError(KeyholtError):
    code = ErrorCode.LOCKED
    meaning = "The agent is locked; unlock it with `keyholt unlock`."


class UnlockFailedError(KeyholtError):
    code = ErrorCode.UNLOCK_FAILED
    meaning = "No keyslot opened with what was given; check the passphrase and the slot."


class DeniedError(KeyholtError):
    code = ErrorCode.DENIED
    meaning = "This peer may not do that."


class NotFoundError(KeyholtError):
    code = ErrorCode.NOT_FOUND
    meaning = "There is no such thing, or it was deleted."


class AlreadyExistsError(KeyholtError):
    code = ErrorCode.ALREADY_EXISTS
    meaning = "The name is taken; choose another one."


class ConflictError(KeyholtError):
    code = ErrorCode.CONFLICT
    meaning = "What is there is not as the request expects it; read it and decide again."


class ContentionError(KeyholtError):
    code = ErrorCode.CONTENTION
    meaning = "Somebody else was faster just now, and nothing was changed; try again."
    retryable = True


class TooLargeError(KeyholtError):
    code = ErrorCode.TOO_LARGE
    meaning = "Something is over a limit of the protocol or of the agent; make it smaller."


class ResourceExhaustedError(KeyholtError):
    code = ErrorCode.RESOURCE_EXHAUSTED
    meaning = "The agent is out of locked memory, connections or room; try again, or raise the limit."
    retryable = True


class BusyError(KeyholtError):
    code = ErrorCode.BUSY
    meaning = "Too much waits for the agent already; try again in a moment."
    retryable = True


class RateLimitedError(KeyholtError):
    code = ErrorCode.RATE_LIMITED
    meaning = "Too many attempts failed; wait for as many seconds as `retry_after` says, then try again."
    retryable = True


class DeadlineExceededError(KeyholtError):
    code = ErrorCode.DEADLINE_EXCEEDED
    meaning = "The request was not done in time."
    retryable = True


class TokenUnavailableError(KeyholtError):
    code = ErrorCode.TOKEN_UNAVAILABLE
    meaning = "The hardware token does not answer; plug it in or check its module."
    retryable = True


class StoreUnavailableError(KeyholtError):
    code = ErrorCode.STORE_UNAVAILABLE
    meaning = "The store cannot be read or written; see the agent's log and `keyholt doctor`."
    retryable = True


class AuditUnavailableError(KeyholtError):
    code = ErrorCode.AUDIT_UNAVAILABLE
    meaning = "The audit log cannot be written, so the request was not carried out."
    retryable = True


class IntegrityError(KeyholtError):
    code = ErrorCode.INTEGRITY
    meaning = "Stored bytes fail authentication: they were damaged or replaced; restore a backup."


class InternalError(KeyholtError):
    pass


class AgentUnreachableError(KeyholtError):
    """Nobody answers at the address, or the connection broke and repeating would not be safe.

    Raised by clients only; its code is never on the wire.
    """

    code = ErrorCode.AGENT_UNREACHABLE
    meaning = "The agent is not reachable; start it with `keyholt-agent`."
    retryable = True


class AgentUntrustedError(KeyholtError):
    """The server at the address runs as a user who is not trusted with what a client sends; nothing was sent.

    Raised by clients only; its code is never on the wire.
    """

    code = ErrorCode.AGENT_UNTRUSTED
    meaning = "The server at the address is not run by you or root; find out whose it is."


class ProtocolError(Exception):
    """The rules of the wire were broken; the connection object stays in error."""


class LocalProtocolError(ProtocolError):
    """This side called the connection in a way that its state does not allow: a bug here."""


class RemoteProtocolError(ProtocolError):
    """The other side sent bytes that the protocol does not allow.

    Attributes:
        answer: what to tell the peer before the connection is closed.
    """

    def __init__(self, message: str, answer: KeyholtError | None = None) -> None:
        super().__init__(message)
        self.answer = answer or InvalidRequestError(message)


ERRORS: Final[dict[str, type[KeyholtError]]] = {
    cls.code.wire_name: cls
    for cls in (
        InvalidRequestError,
        UnsupportedError,
        UninitialisedError,
        LockedError,
        UnlockFailedError,
        DeniedError,
        NotFoundError,
        AlreadyExistsError,
        ConflictError,
        ContentionError,
        TooLargeError,
        ResourceExhaustedError,
        BusyError,
        RateLimitedError,
        DeadlineExceededError,
        TokenUnavailableError,
        StoreUnavailableError,
        AuditUnavailableError,
        IntegrityError,
        InternalError,
    )
}
"""The class of each code that may be on the wire, by its name there: all below 100, once each."""


class Detail(NamedTuple):
    """One entry of an error's details: its type, as in messages, and a sentence of what it says."""

    type: object
    meaning: str


DETAILS: Final[dict[str, Detail]] = {
    "field": Detail(str, "What is at fault: a field of the operation, or `header` or `payload`."),
    "limit": Detail(int, "The most that is allowed of `field`, in the unit that the rule has."),
    "retry_after": Detail(int, "Seconds until the same request is worth another try."),
    "current_version": Detail(int, "The `if_version` that would be right now; 0 where no live secret is."),
    "normalised": Detail(str, "The text to write in place of `field`, in normal form KC."),
    "versions": Detail(tuple[int, ...], "The protocol versions that the agent speaks."),
}
"""What may stand in an error's details, by its name."""


def error_from_wire(
    code: str, message: str, details: Mapping[str, object] | None = None, *, retryable: bool | None = None
) -> KeyholtError:
    """The exception for an error response; a code from a newer agent becomes ``InternalError``.

    ``retryable`` is what the agent says of it, which goes before what this side knows of the code.
    """
    error = ERRORS.get(code, InternalError)(message, details=details)
    if retryable is not None:
        error.retryable = retryable
    return error
