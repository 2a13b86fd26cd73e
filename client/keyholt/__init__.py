"""Keyholt's client library: secrets from the agent on this machine.

::

    import keyholt

    with keyholt.connect() as agent:
        agent.put("prod/db/password", b"s3cret")
        print(agent.get("prod/db/password").version)
    keyholt.get("prod/db/password").text        # one-shot

``keyholt.trio`` and ``keyholt.asyncio`` mirror it::

    async with keyholt.trio.connect() as agent:
        secret = await agent.get("prod/db/password")

- Nothing is imported before it is used (PEP 562), so that `keyholt get` starts as fast as Python does. What
  is imported is the standard library and msgpack; ``keyholt.trio`` needs trio as well.
- Every error is a subclass of ``KeyholtError`` with ``.code``, ``.retryable`` and ``.details``.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from keyholt import asyncio as asyncio
    from keyholt import trio as trio
    from keyholt.blocking import Agent, connect, get
    from keyholt.secret import Secret
    from keyholt_protocol.errors import (
        AgentUnreachableError,
        AlreadyExistsError,
        AuditUnavailableError,
        BusyError,
        ConflictError,
        ContentionError,
        DeadlineExceededError,
        DeniedError,
        ErrorCode,
        IntegrityError,
        InternalError,
        InvalidRequestError,
        KeyholtError,
        LockedError,
        NotFoundError,
        RateLimitedError,
        ResourceExhaustedError,
        StoreUnavailableError,
        TokenUnavailableError,
        TooLargeError,
        UninitialisedError,
        UnlockFailedError,
        UnsupportedError,
    )
    from keyholt_protocol.messages import (
        AgentStatusResult,
        AgentUnlockResult,
        SecretDeleteResult,
        SecretDestroyResult,
        SecretHistoryResult,
        SecretInfo,
        SecretPutResult,
        SecretUndeleteResult,
        SecretVersionInfo,
        SlotAddResult,
        SlotInfo,
        SlotRemoveResult,
        StoreInitResult,
    )

    __version__: str

__all__ = [
    "Agent",
    "AgentStatusResult",
    "AgentUnlockResult",
    "AgentUnreachableError",
    "AlreadyExistsError",
    "AuditUnavailableError",
    "BusyError",
    "ConflictError",
    "ContentionError",
    "DeadlineExceededError",
    "DeniedError",
    "ErrorCode",
    "IntegrityError",
    "InternalError",
    "InvalidRequestError",
    "KeyholtError",
    "LockedError",
    "NotFoundError",
    "RateLimitedError",
    "ResourceExhaustedError",
    "Secret",
    "SecretDeleteResult",
    "SecretDestroyResult",
    "SecretHistoryResult",
    "SecretInfo",
    "SecretPutResult",
    "SecretUndeleteResult",
    "SecretVersionInfo",
    "SlotAddResult",
    "SlotInfo",
    "SlotRemoveResult",
    "StoreInitResult",
    "StoreUnavailableError",
    "TokenUnavailableError",
    "TooLargeError",
    "UninitialisedError",
    "UnlockFailedError",
    "UnsupportedError",
    "__version__",
    "asyncio",
    "connect",
    "get",
    "trio",
]

_HOMES = {
    "keyholt.blocking": ("Agent", "connect", "get"),
    "keyholt.secret": ("Secret",),
    "keyholt_protocol.errors": (
        "AgentUnreachableError",
        "AlreadyExistsError",
        "AuditUnavailableError",
        "BusyError",
        "ConflictError",
        "ContentionError",
        "DeadlineExceededError",
        "DeniedError",
        "ErrorCode",
        "IntegrityError",
        "InternalError",
        "InvalidRequestError",
        "KeyholtError",
        "LockedError",
        "NotFoundError",
        "RateLimitedError",
        "ResourceExhaustedError",
        "StoreUnavailableError",
        "TokenUnavailableError",
        "TooLargeError",
        "UninitialisedError",
        "UnlockFailedError",
        "UnsupportedError",
    ),
    "keyholt_protocol.messages": (
        "SecretDeleteResult",
        "SecretDestroyResult",
        "SecretHistoryResult",
        "StoreInitResult",
        "SecretPutResult",
        "SecretInfo",
        "SlotAddResult",
        "SlotInfo",
        "SlotRemoveResult",
        "AgentStatusResult",
        "SecretUndeleteResult",
        "AgentUnlockResult",
        "SecretVersionInfo",
    ),
}
"""Where each public name lives, by module."""


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module 'keyholt' has no attribute {name!r}")
    from importlib import import_module

    value: object
    if name in {"asyncio", "trio"}:
        try:
            return import_module(f"keyholt.{name}")
        except ModuleNotFoundError as error:
            # Of an attribute this is expected (hasattr, help); `import keyholt.trio` says it itself.
            raise AttributeError(
                f"keyholt.{name} needs the package {error.name!r}: pip install it"
            ) from error
    if name == "__version__":
        value = import_module("importlib.metadata").version("keyholt")
    else:
        home = next(module for module, names in _HOMES.items() if name in names)
        value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
