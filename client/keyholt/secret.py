"""A secret value in the hands of a program: held so that it does not leak by accident.

- The value lives in one ``bytearray`` that ``wipe`` zeroes: when a ``with`` is left, when ``wipe`` is called,
  or when the object dies. What ``bytes`` and ``text`` give out are the caller's own copies, which nothing can
  wipe.
- ``repr``, ``str`` and formatting show the length, never the value. Pickling, copying, ordering and hashing
  are refused. Equality is for two secrets, in time that does not depend on where they differ.
- It is not locked memory: a client's value can be swapped out, like all of the program that uses it.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NoReturn, cast

from keyholt_protocol.errors import InvalidRequestError

__all__ = ["Secret"]

_NO_LABELS: Final[Mapping[str, str]] = MappingProxyType({})

_ZEROES: Final = memoryview(bytes(64 * 1024))

_Bytes = bytes  # the property of that name hides the type inside the class


class Secret:
    """The value of one version of a secret.

    Attributes:
        path: the secret's path; empty where the value came from elsewhere than the agent.
        version: the version that this value has; 0 there.
        created: when the version was written, seconds since 1970-01-01 UTC.
        expires: when it ceases to be given out as the newest, seconds since 1970-01-01 UTC, or ``None``.
        labels: the labels of the version, read-only.
    """

    __slots__ = ("_value", "_wiped", "created", "expires", "labels", "path", "version")

    def __init__(
        self,
        value: bytearray,
        *,
        path: str,
        version: int,
        created: int,
        expires: int | None = None,
        labels: Mapping[str, str] = _NO_LABELS,
    ) -> None:
        """Take over ``value``: the secret owns it from here on and wipes it."""
        self._wiped = False
        self._value = value
        self.path = path
        self.version = version
        self.created = created
        self.expires = expires
        self.labels: Mapping[str, str] = MappingProxyType(labels)

    @property
    def bytes(self) -> _Bytes:
        """The value as a new ``bytes`` object, which cannot be wiped; ``view`` makes no copy."""
        return _Bytes(self._readable())

    @property
    def text(self) -> str:
        """The value as text.

        Raises:
            InvalidRequestError: it is not UTF-8; use ``bytes``.
        """
        try:
            return self._readable().decode()
        except UnicodeDecodeError:
            pass  # it holds the value: raised in here, the next error would keep it as its context
        raise InvalidRequestError(f"the value of {self.path!r} is not UTF-8 text; use .bytes")

    @property
    def view(self) -> memoryview:
        """The value without a copy, read-only; zeroes once the secret is wiped."""
        return memoryview(self._readable()).toreadonly()

    def field(self, name: str) -> Secret:
        """A part of a value that is a JSON object, as a secret of its own, with the same path and version.

        Args:
            name: the member's name; or, if it begins with ``/``, a JSON pointer (RFC 6901), as
                ``/users/0/name``. A text is given without quotes, a number as it is written.

        Raises:
            NotFoundError: there is no such field.
            InvalidRequestError: the value is no JSON object, or the field an object, a list or null.
        """
        from keyholt.field import pick  # brings json, which most programs do not need for this

        if not isinstance(cast("object", name), str):
            raise TypeError(f"the field must be text (str), not {type(name).__name__}")
        return Secret(
            pick(self._readable(), name, self.path),
            path=self.path,
            version=self.version,
            created=self.created,
            expires=self.expires,
            labels=self.labels,
        )

    def wipe(self) -> None:
        """Zero the value; it cannot be read any more. Wiping twice is no error."""
        # As many zeroes pass through the same vector registers as the value did when it was copied: nothing
        # stays there either (tests/client/test_residue.py). A large value has no zeroes of its own size made
        # for it, which takes ten times as long.
        size = len(self._value)
        if size <= len(_ZEROES):
            self._value[:] = _Bytes(size)
        else:
            view = memoryview(self._value)
            for start in range(0, size, len(_ZEROES)):
                view[start : start + len(_ZEROES)] = _ZEROES[: size - start]
        self._wiped = True

    def _readable(self) -> bytearray:
        if self._wiped:
            raise ValueError("the secret was wiped; fetch it again")
        return self._value

    def __len__(self) -> int:
        return len(self._value)

    def __bool__(self) -> bool:
        return True  # an empty value is a value

    def __enter__(self) -> Secret:
        return self

    def __exit__(self, *_: object) -> None:
        self.wipe()

    def __del__(self) -> None:
        if hasattr(self, "_value") and not self._wiped:
            self.wipe()

    def __repr__(self) -> str:
        size = len(self._value)
        state = "wiped" if self._wiped else f"{size} byte" if size == 1 else f"{size} bytes"
        return f"<Secret {self.path!r} version {self.version}, {state}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._readable(), other._readable())

    __hash__ = None  # type: ignore[assignment]  # a hash would be a short digest of the value

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret cannot be pickled or copied; pass it on, or fetch it again")

    @classmethod
    def __get_pydantic_core_schema__(cls, *_: object) -> Any:
        """For fields of pydantic's models: a ``Secret``, text or bytes; see ``keyholt.pydantic_field``."""
        from keyholt import pydantic_field

        return pydantic_field.schema()

    @classmethod
    def __get_pydantic_json_schema__(cls, *_: object) -> Any:
        from keyholt import pydantic_field

        return pydantic_field.json_schema()

    def __copy__(self) -> NoReturn:
        self.__reduce_ex__(None)

    def __deepcopy__(self, memo: object) -> NoReturn:
        self.__reduce_ex__(None)
