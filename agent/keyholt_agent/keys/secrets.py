"""Sealing and opening the versions of secrets: a data key for each, wrapped by a master key.

- ``seal`` uses up a ``WrapPermit``; without one nothing is wrapped.
- ``open`` takes a version that was taken apart before (``OpenableSecret``). If its data key is at hand, that
  is one opening and nothing else; otherwise the master key unwraps it first, at once or, in a token, in its
  time.
- Values and data keys lie in locked memory only; what is not given out is zeroed, failed or not.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from keyholt_agent.keys.data_keys import NOT_KEPT, DataKeys
from keyholt_agent.keys.envelope import (
    ANONYMOUS_KEY,
    KEY_SIZE,
    OVERHEAD,
    Context,
    RecordType,
    bind,
    decrypt,
    header_under,
    key_reference,
    referenced_key,
    seal,
    take_apart,
)
from keyholt_agent.memory import Guarded, LockedBuffer
from keyholt_protocol.errors import LockedError

if TYPE_CHECKING:
    from keyholt_agent.keys.master_key import ActiveVersion, WrapPermit
    from keyholt_agent.keys.master_keys import MasterKeys
    from keyholt_agent.keys.randomness import Randomness
    from keyholt_agent.memory import Arena

__all__ = ["OpenableSecret", "RewrappedKey", "SealedSecret", "SecretKeys"]

_DATA_KEY_BESIDE: Final = key_reference(RecordType.SECRET_VALUE, ANONYMOUS_KEY, 0)
"""How a value names its key: the data key in the same row."""

_HEADER_SIZE: Final = len(header_under(_DATA_KEY_BESIDE, 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedSecret:
    """One sealed secret version, for the store: the wrapped data key, the value, and who wrapped it."""

    wrapped_key: bytes
    value: bytes
    master_id: bytes
    master_version: int


class RewrappedKey(NamedTuple):
    """A data key that was wrapped anew, for the store, and who wrapped it."""

    wrapped_key: bytes
    master_id: bytes
    master_version: int


class OpenableSecret:
    """One version of a secret, taken apart so that opening it is one call. Nothing of it is authentic yet.

    Args:
        context: where it belongs, with what is stored beside it in clear.
        version: its number.
        wrapped_key: its wrapped data key.
        value: the sealed value.

    Raises:
        IntegrityError: the value is no record of that version.
    """

    __slots__ = ("associated", "nonce", "sealed", "seat", "size", "version", "wrapped_key")

    def __init__(self, context: Context, version: int, wrapped_key: bytes, value: bytes) -> None:
        header = header_under(_DATA_KEY_BESIDE, version)
        self.nonce, self.sealed = take_apart(value, header)
        self.associated = header + context
        self.size = len(value) - OVERHEAD
        self.version = version
        self.wrapped_key = wrapped_key
        self.seat = NOT_KEPT

    @property
    def context(self) -> Context:
        """Where it belongs, which its wrapped data key is bound to as well."""
        return Context(self.associated[_HEADER_SIZE:])


class SecretKeys(Guarded):
    """Seals and opens secrets with the master keys of an open store.

    Attributes:
        data_keys: of the secrets that are fetched most; owned until ``release``.
    """

    __slots__ = ("_arena", "_masters", "_open", "_randomness", "_store_id", "data_keys")

    def __init__(self, arena: Arena, store_id: bytes, masters: MasterKeys, randomness: Randomness) -> None:
        self._arena = arena
        self._store_id = store_id
        self._masters = masters
        self._randomness = randomness
        self._open = True
        self.data_keys = DataKeys(arena)

    def seal(
        self, permit: WrapPermit, path: str, version: int, metadata: bytes, plaintext: memoryview
    ) -> SealedSecret | Awaitable[SealedSecret]:
        """Seal one secret version under a new data key; ``plaintext`` has to stay until it is done.

        Raises:
            LockedError: the agent was locked since the permit was given.
        """
        master = permit.use()
        context = bind(self._store_id, path, metadata)
        header = header_under(_DATA_KEY_BESIDE, version)
        data_key = self._arena.allocate(KEY_SIZE)
        try:
            self._randomness.fill(data_key)
            value = seal(data_key.view, header, context, plaintext, self._randomness.nonce())
            wrapped = master.key.wrap(version, context, data_key.view)
        except BaseException:
            data_key.release()
            raise
        if not isinstance(wrapped, bytes):
            return _wrapped_later(master, wrapped, value, data_key)
        data_key.release()
        return _sealed(master, wrapped, value)

    def open(self, secret: OpenableSecret) -> LockedBuffer | Awaitable[LockedBuffer]:
        """The value, the caller's to release.

        Raises:
            IntegrityError: it is not what was sealed at this path, version and metadata.
            ResourceExhaustedError: no locked memory for the value.
        """
        data_key = self.data_keys.of(secret)
        if data_key is None:
            return self._open_wrapped(secret)
        target = self._arena.allocate(secret.size)
        try:
            decrypt(data_key, secret.nonce, secret.sealed, secret.associated, target.view)
        except BaseException:
            target.release()
            raise
        return target

    async def authenticate(self, path: str, version: int, metadata: bytes, wrapped: bytes) -> None:
        """Hold what is stored beside a value against its wrapped data key, which is bound to it as well.

        Raises:
            IntegrityError: ``wrapped`` is not what was wrapped for that path, version and metadata.
        """
        master = self._masters.referenced(referenced_key(wrapped))
        with self._arena.allocate(KEY_SIZE) as data_key:
            unwrapping = master.unwrap(wrapped, version, bind(self._store_id, path, metadata), data_key.view)
            if unwrapping is not None:
                await unwrapping

    async def rewrap(
        self, permit: WrapPermit, path: str, version: int, metadata: bytes, wrapped: bytes
    ) -> RewrappedKey:
        """The data key of a secret version, wrapped by the active version of a master key.

        Raises:
            IntegrityError: ``wrapped`` is not what was wrapped for that path, version and metadata.
            LockedError: the agent was locked since the permit was given.
        """
        master = permit.use()
        context = bind(self._store_id, path, metadata)
        before = self._masters.referenced(referenced_key(wrapped))
        with self._arena.allocate(KEY_SIZE) as data_key:
            unwrapping = before.unwrap(wrapped, version, context, data_key.view)
            if unwrapping is not None:
                await unwrapping
                if not self._open:
                    raise LockedError
            rewrapped = master.key.wrap(version, context, data_key.view)
            rewrapped = rewrapped if isinstance(rewrapped, bytes) else await rewrapped
        return RewrappedKey(rewrapped, master.key_id, master.version)

    def release(self) -> None:
        """Zero the data keys; again is harmless. What waits for a token is refused when it comes back."""
        self._open = False
        self.data_keys.release()

    def __repr__(self) -> str:
        return "<SecretKeys>"

    def _open_wrapped(self, secret: OpenableSecret) -> LockedBuffer | Awaitable[LockedBuffer]:
        """Unwrap the data key first, with the master key that its own record names."""
        master = self._masters.referenced(referenced_key(secret.wrapped_key))
        # The value's place first, which may be all that the arena has for one; the key's is left in any case.
        target = self._arena.allocate(secret.size)
        try:
            data_key = self._arena.allocate(KEY_SIZE)
            try:
                unwrapping = master.unwrap(secret.wrapped_key, secret.version, secret.context, data_key.view)
            except BaseException:
                data_key.release()
                raise
        except BaseException:
            target.release()
            raise
        if unwrapping is not None:
            return self._unwrapped_later(unwrapping, secret, data_key, target)
        return self._open_with(data_key, secret, target)

    async def _unwrapped_later(
        self,
        unwrapping: Awaitable[None],
        secret: OpenableSecret,
        data_key: LockedBuffer,
        target: LockedBuffer,
    ) -> LockedBuffer:
        try:
            await unwrapping
            if not self._open:  # a locked agent gives nothing out
                raise LockedError
        except BaseException:
            data_key.release()
            target.release()
            raise
        return self._open_with(data_key, secret, target)

    def _open_with(
        self, data_key: LockedBuffer, secret: OpenableSecret, target: LockedBuffer
    ) -> LockedBuffer:
        """Open with a data key just unwrapped, which is kept if it is the right one; releases its buffer."""
        with data_key:
            try:
                decrypt(data_key.view, secret.nonce, secret.sealed, secret.associated, target.view)
            except BaseException:
                target.release()
                raise
            self.data_keys.keep(secret, data_key.view)
            return target


async def _wrapped_later(
    master: ActiveVersion, wrapping: Awaitable[bytes], value: bytes, data_key: LockedBuffer
) -> SealedSecret:
    with data_key:
        return _sealed(master, await wrapping, value)


def _sealed(master: ActiveVersion, wrapped: bytes, value: bytes) -> SealedSecret:
    return SealedSecret(
        wrapped_key=wrapped, value=value, master_id=master.key_id, master_version=master.version
    )
