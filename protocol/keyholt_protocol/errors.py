"""Every error that can cross the wire, and the two that a wire can raise by itself.

::

    KeyholtError                      .code  .retryable  .request_id
    ├── InvalidRequestError           the request is malformed
    ├── UnsupportedError              no such operation or protocol version
    ├── UninitialisedError            there is no store yet
    ├── LockedError                   the root key is not in memory
    ├── UnlockFailedError             no keyslot opened with what was given
    ├── DeniedError                   this peer may not do that
    ├── NotFoundError                 no such thing, or deleted
    ├── AlreadyExistsError            the name is taken
    ├── ConflictError                 a compare-and-set found another version
    ├── TooLargeError                 over a limit of the protocol
    ├── ResourceExhaustedError        out of locked memory, connections or room
    ├── RateLimitedError              too many attempts: wait
    ├── DeadlineExceededError         not done in time
    ├── TokenUnavailableError         the hardware token does not answer
    ├── StoreUnavailableError         the store cannot be read or written
    ├── AuditUnavailableError         the audit log cannot be written
    ├── IntegrityError                stored bytes fail authentication
    ├── InternalError                 a defect of the agent
    └── AgentUnreachableError         (client only) nobody answers at the address
    ProtocolError                     the byte stream broke the rules of the wire
    ├── LocalProtocolError            this side misused the connection object
    └── RemoteProtocolError           the other side sent what it may not

- A message names codes, paths, versions and limits; never a value, a passphrase or a key.
- A code, its number and its class are one fact, kept in ``ERRORS``.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

__all__ = [
    "ERRORS",
    "AgentUnreachableError",
    "AlreadyExistsError",
    "AuditUnavailableError",
    "ConflictError",
    "DeadlineExceededError",
    "DeniedError",
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

    A number is given once and never again. Those from 100 on are a client's own and never on the wire.
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
    TOO_LARGE = 10
    RESOURCE_EXHAUSTED = 11
    RATE_LIMITED = 12
    DEADLINE_EXCEEDED = 13
    TOKEN_UNAVAILABLE = 14
    STORE_UNAVAILABLE = 15
    AUDIT_UNAVAILABLE = 16
    INTEGRITY = 17
    INTERNAL = 18

    AGENT_UNREACHABLE = 100

    @property
    def wire_name(self) -> str:
        return self.name.lower()


class KeyholtError(Exception):
    """What every error of Keyholt derives from.

    Attributes:
        code: the error's code, also its name on the wire.
        meaning: one sentence, the same for every error of this code.
        retryable: whether the same request may succeed later without a change.
        request_id: the id of the request that it answers, where there was one.
    """

    code: ErrorCode = ErrorCode.INTERNAL
    meaning: str = "The agent met a defect of its own; its log says where."
    retryable: bool = False

    def __init__(self, message: str = "", *, request_id: int | None = None) -> None:
        super().__init__(message or self.meaning)
        self.request_id = request_id


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
    meaning = "Another version is in force than the one expected; read it and decide again."


class TooLargeError(KeyholtError):
    code = ErrorCode.TOO_LARGE
    meaning = "Something is over a limit of the protocol; make it smaller."


class ResourceExhaustedError(KeyholtError):
    code = ErrorCode.RESOURCE_EXHAUSTED
    meaning = "The agent is out of locked memory, connections or room; try again, or raise the limit."
    retryable = True


class RateLimitedError(KeyholtError):
    code = ErrorCode.RATE_LIMITED
    meaning = "Too many attempts; wait as long as the message says."
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


class ProtocolError(Exception):
    """The rules of the wire were broken; the connection object stays in error."""


class LocalProtocolError(ProtocolError):
    """This side called the connection in a way that its state does not allow: a bug here."""


class RemoteProtocolError(ProtocolError):
    """The other side sent bytes that the protocol does not allow.

    Attributes:
        code: what to answer the peer with before the connection is closed.
    """

    def __init__(self, message: str, code: ErrorCode = ErrorCode.INVALID_REQUEST) -> None:
        super().__init__(message)
        self.code = code


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
        TooLargeError,
        ResourceExhaustedError,
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


def error_from_wire(
    code: str, message: str, request_id: int | None = None, *, retryable: bool | None = None
) -> KeyholtError:
    """The exception for an error response; a code from a newer agent becomes ``InternalError``.

    ``retryable`` is what the agent says of it, which goes before what this side knows of the code.
    """
    error = ERRORS.get(code, InternalError)(message, request_id=request_id)
    if retryable is not None:
        error.retryable = retryable
    return error
