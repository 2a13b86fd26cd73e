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

- Nothing is imported before it is used (PEP 562), so that `keyholt get` starts as fast as Python does. The
  first name that is asked for brings all of them (``keyholt.public``): the standard library and msgpack.
  ``keyholt.trio`` needs trio as well.
- Every error is a subclass of ``KeyholtError`` with ``.code``, ``.retryable`` and ``.details``.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from keyholt import asyncio as asyncio
    from keyholt import trio as trio
    from keyholt.public import *  # noqa: F403  # what is public is said there, once

    __all__: list[str]
    __version__: str

_BESIDE = ("__version__", "asyncio", "trio")
"""Public names that are not in ``keyholt.public``: each may be had without the others."""


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for (PEP 562)."""
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
    elif name == "__all__":
        value = _names()
    elif name in _names():
        value = getattr(import_module("keyholt.public"), name)
    else:
        raise AttributeError(f"module 'keyholt' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_names()})


def _names() -> list[str]:
    from keyholt.public import __all__ as names  # not `from keyholt`, which would ask `__getattr__` for it

    return sorted([*names, *_BESIDE])
