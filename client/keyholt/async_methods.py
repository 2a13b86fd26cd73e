"""The methods of the clients for tasks, one for each way to ask for an operation.

Made from the registry and ``keyholt.invocations`` by `make generate`: change those.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TypeVar

from keyholt.arguments import request_of
from keyholt.invocations import (
    Invocation,
    Plan,
    Value,
    invocation_of,
    secret_get,
    secret_history,
    secret_list,
    secret_put,
    slot_add,
    slot_change,
    slot_list,
)
from keyholt.secret import Secret
from keyholt_protocol import messages as m
from keyholt_protocol import operations as ops

__all__ = ["AsyncMethods", "AsyncSlots"]

T = TypeVar("T")


class AsyncMethods(ABC):
    """What the agent can be asked for.

    Every method takes ``timeout``: the seconds within which the agent must have answered, for a result that
    comes in pages each of them; ``math.inf`` for as long as it takes; without it, what ``connect`` was given.
    When the time is over the connection stays usable: the late answer is received and wiped, and where one is
    needed, the next call opens a new one. A write that was under way may still be carried out, also after
    later calls. Any may raise these beside its own:

    - ``UninitialisedError``, ``LockedError``: the agent has no store, or is locked; ``init``, ``unlock``.
    - ``DeniedError``: the agent does not let this program do that.
    - ``DeadlineExceededError``: the time is over; says whether the request may have been carried out.
    - ``AgentUnreachableError``: the connection broke, and could not be opened again or the request is not
      safe to repeat; says whether it may have been carried out.
    - ``StoreUnavailableError``: the agent's store cannot be read or written; see ``keyholt doctor``.
    - ``ResourceExhaustedError``, ``BusyError``: the agent has no room for it now; try again.
    - ``InvalidRequestError``, ``TooLargeError``: what was given is not allowed; says what to write.
      What has a wrong type is a ``TypeError``.

    A name in double backticks that is no parameter, such as ``retry_after``, is one of the error's details.
    """

    @abstractmethod
    async def perform(self, invocation: Invocation[T], timeout: float | None = None) -> T:
        """Send one request and wait for its answer."""

    @abstractmethod
    async def follow(self, plan: Plan[T], timeout: float | None = None) -> T:
        """Make the invocations of a plan one after the other."""

    @property
    def slots(self) -> AsyncSlots:
        """The keyslots: the ways to unlock the store."""
        return AsyncSlots(self)

    async def init(
        self,
        *,
        passphrase: Value,
        slot: str = "passphrase",
        timeout: float | None = None,
    ) -> m.StoreInitResult:
        """Creates the store with its first keyslot, and leaves the agent unlocked.

        Args:
            passphrase: the passphrase of the first keyslot.
            slot: the name of the first keyslot.

        Raises:
            AlreadyExistsError: there is a store already.
        """
        request = request_of(m.StoreInitRequest, slot=slot)
        invocation = invocation_of(ops.STORE_INIT, request, passphrase)
        return await self.perform(invocation, timeout)

    async def rekey(self, *, timeout: float | None = None) -> m.StoreRekeyResult:
        """Makes a new root key and new master keys, so that older copies of the store open nothing new.

        Raises:
            IntegrityError: what is stored was damaged or replaced.
            ContentionError: the keyslots were changed meanwhile.
        """
        request = request_of(m.StoreRekeyRequest)
        invocation = invocation_of(ops.STORE_REKEY, request)
        return await self.perform(invocation, timeout)

    async def status(self, *, timeout: float | None = None) -> m.AgentStatusResult:
        """Tells the agent's state and the health of its parts."""
        request = request_of(m.AgentStatusRequest)
        invocation = invocation_of(ops.AGENT_STATUS, request)
        return await self.perform(invocation, timeout)

    async def unlock(
        self,
        *,
        passphrase: Value,
        slot: str | None = None,
        timeout: float | None = None,
    ) -> m.AgentUnlockResult:
        """Unseals the root key with a keyslot.

        Args:
            passphrase: the passphrase.
            slot: the keyslot to try; without it every keyslot that a passphrase can open is tried.

        Raises:
            UnlockFailedError: the passphrase opens none of the keyslots that it may open.
            RateLimitedError: too many passphrases of this peer opened none; ``retry_after`` says how long
                to wait.
            IntegrityError: a keyslot, or the table of them, was damaged or replaced.
            NotFoundError: there is no keyslot ``slot``.
            ContentionError: the agent was locked while it was being unlocked.
        """
        request = request_of(m.AgentUnlockRequest, slot=slot)
        invocation = invocation_of(ops.AGENT_UNLOCK, request, passphrase)
        return await self.perform(invocation, timeout)

    async def lock(self, *, timeout: float | None = None) -> None:
        """Zeroes every key in memory, and drops what was cached and the values that have not left; locking a
        locked agent is no error.
        """
        request = request_of(m.AgentLockRequest)
        invocation = invocation_of(ops.AGENT_LOCK, request)
        await self.perform(invocation, timeout)

    async def put(
        self,
        path: str,
        value: Value,
        *,
        if_version: int | None = None,
        labels: Mapping[str, str] | None = None,
        expires: int | datetime | timedelta | None = None,
        timeout: float | None = None,
    ) -> m.SecretPutResult:
        """Write the next version of a secret; it is on the agent's disk when this returns.

        Args:
            path: where to write.
            value: up to 16 MiB, and up to the agent's free locked memory; text is written as UTF-8.
            if_version: refuse the write unless this is the newest version; 0: unless there is none.
            labels: up to 16 short texts by name, not secret; ``{}`` for none. Left out, those of the
                newest version are kept; if that is destroyed there are none, nor an expiry, unless they
                are given.
            expires: from when the version is no longer given out, a time to come: a ``datetime`` with a
                time zone, a ``timedelta`` from now, or seconds since 1970-01-01 UTC; rounded up to whole
                seconds. 0 for never. Left out, the newest version's is kept, unless that has expired.

        Raises:
            ConflictError: another version than ``if_version`` is the newest; read it and decide again.
            ContentionError: too many others wrote this secret meanwhile; try again.
            IntegrityError: the newest version, whose labels were to be kept, is damaged; say ``labels``
                and ``expires`` to write all the same.
            InvalidRequestError: the path, a label or the time of expiry is not allowed, or the value is
                text with a lone surrogate; says which and why.
            TooLargeError: the value is over the limit, or never fits the agent's locked memory; store a
                reference to it instead, or raise what the message says.
            ResourceExhaustedError: the agent has no locked memory for the value now; try again.
            AgentUnreachableError: the connection broke; says whether the write may have happened.
        """
        invocation = secret_put(path, value, if_version=if_version, labels=labels, expires=expires)
        return await self.perform(invocation, timeout)

    async def get(self, path: str, *, version: int | None = None, timeout: float | None = None) -> Secret:
        """Fetch a secret: its newest version, or the one asked for.

        Args:
            path: the secret's path, or a reference: ``keyholt://PATH``, ``keyholt://PATH?version=N``, and
                ``keyholt://PATH#FIELD`` for a field of a value that is a JSON object, see
                ``Secret.field``.
            version: its number, from 1; without it the newest.

        Raises:
            NotFoundError: there is no such secret, version or field; or it is deleted, destroyed or
                expired.
            IntegrityError: what is stored was damaged or replaced; restore a backup.
            InvalidRequestError: the reference is not well formed, or names a version beside ``version``;
                the value is no JSON object, or the field an object, a list or null.
        """
        invocation = secret_get(path, version=version)
        return await self.perform(invocation, timeout)

    async def list(self, prefix: str = "", *, timeout: float | None = None) -> list[m.SecretInfo]:
        """The live secrets whose path begins with ``prefix``, in the order of their paths, without values.

        It may come in pages, each a moment of its own: it is no snapshot while others write.

        Raises:
            IntegrityError: what is stored was damaged or replaced.
        """
        plan = secret_list(prefix)
        return await self.follow(plan, timeout)

    async def history(self, path: str, *, timeout: float | None = None) -> m.SecretHistoryResult:
        """All versions of a secret, newest first, without values; of a deleted one too.

        Raises:
            IntegrityError: what is stored was damaged or replaced.
            NotFoundError: there never was such a secret.
        """
        plan = secret_history(path)
        return await self.follow(plan, timeout)

    async def delete(self, path: str, *, timeout: float | None = None) -> m.SecretDeleteResult:
        """Hides a secret behind a tombstone; undelete brings it back.

        Raises:
            IntegrityError: what is stored was damaged or replaced.
            NotFoundError: there is no such secret, or it is deleted already.
        """
        request = request_of(m.SecretDeleteRequest, path=path)
        invocation = invocation_of(ops.SECRET_DELETE, request)
        return await self.perform(invocation, timeout)

    async def undelete(self, path: str, *, timeout: float | None = None) -> m.SecretUndeleteResult:
        """Brings a deleted secret back as it was.

        Raises:
            IntegrityError: what is stored was damaged or replaced.
            NotFoundError: there never was such a secret.
            AlreadyExistsError: the secret is not deleted.
        """
        request = request_of(m.SecretUndeleteRequest, path=path)
        invocation = invocation_of(ops.SECRET_UNDELETE, request)
        return await self.perform(invocation, timeout)

    async def destroy(
        self,
        path: str,
        *,
        version: int,
        timeout: float | None = None,
    ) -> m.SecretDestroyResult:
        """Destroys the data key of one version, for good.

        Raises:
            IntegrityError: what is stored was damaged or replaced.
            NotFoundError: there is no such secret or version.
        """
        request = request_of(m.SecretDestroyRequest, path=path, version=version)
        invocation = invocation_of(ops.SECRET_DESTROY, request)
        return await self.perform(invocation, timeout)

    async def move(self, path: str, *, to: str, timeout: float | None = None) -> m.SecretMoveResult:
        """Gives a secret another path, with its whole history, all at once or not at all.

        Args:
            to: where nothing was ever written.

        Raises:
            IntegrityError: what is stored was damaged or replaced.
            NotFoundError: there never was a secret at ``path``.
            AlreadyExistsError: there is a secret at ``to``, or a deleted one.
            ContentionError: others wrote the secret, or the master key was replaced, meanwhile.
        """
        request = request_of(m.SecretMoveRequest, path=path, to=to)
        invocation = invocation_of(ops.SECRET_MOVE, request)
        return await self.perform(invocation, timeout)

    async def copy(self, path: str, *, to: str, timeout: float | None = None) -> m.SecretCopyResult:
        """Copies a secret to another path, with its whole history, all at once or not at all.

        Args:
            to: where nothing was ever written.

        Raises:
            IntegrityError: what is stored was damaged or replaced.
            NotFoundError: there never was a secret at ``path``.
            AlreadyExistsError: there is a secret at ``to``, or a deleted one.
            ContentionError: others wrote the secret, or the master key was replaced, meanwhile.
        """
        request = request_of(m.SecretCopyRequest, path=path, to=to)
        invocation = invocation_of(ops.SECRET_COPY, request)
        return await self.perform(invocation, timeout)

    async def purge(
        self,
        path: str,
        *,
        if_version: int | None = None,
        timeout: float | None = None,
    ) -> m.SecretPurgeResult:
        """Erases a secret with its history and its path from the store, for good.

        Args:
            if_version: refused unless this is the newest version, of a deleted secret too.

        Raises:
            IntegrityError: what is stored was damaged or replaced.
            NotFoundError: there never was such a secret, or it is purged already.
            ConflictError: ``if_version`` is not the newest version; ``current_version`` is.
        """
        request = request_of(m.SecretPurgeRequest, path=path, if_version=if_version)
        invocation = invocation_of(ops.SECRET_PURGE, request)
        return await self.perform(invocation, timeout)


class AsyncSlots:
    """The keyslots: the ways to unlock the store. The client's attribute ``slots``."""

    def __init__(self, client: AsyncMethods) -> None:
        self._client = client

    async def list(self, *, timeout: float | None = None) -> tuple[m.SlotInfo, ...]:
        """The keyslots, in the order in which they are tried.

        Raises:
            IntegrityError: a keyslot, or the table of them, was damaged or replaced.
        """
        invocation = slot_list()
        return await self._client.perform(invocation, timeout)

    async def add(
        self,
        name: str,
        *,
        existing: Value,
        new: Value,
        timeout: float | None = None,
    ) -> m.SlotAddResult:
        """Add a keyslot for the passphrase ``new``; ``existing`` opens a keyslot that is there.

        Raises:
            UnlockFailedError: ``existing`` opens none.
            RateLimitedError: too many passphrases opened none; the message says how long to wait.
            AlreadyExistsError: the name is taken.
            ContentionError: the keyslots were changed meanwhile; try again.
            IntegrityError: a keyslot, or the table of them, was damaged or replaced; restore a backup.
        """
        invocation = slot_add(name, existing=existing, new=new)
        return await self._client.perform(invocation, timeout)

    async def remove(
        self,
        name: str,
        *,
        passphrase: Value,
        timeout: float | None = None,
    ) -> m.SlotRemoveResult:
        """Removes a keyslot; the last one stays.

        Args:
            passphrase: a passphrase that opens a keyslot that stays.

        Raises:
            UnlockFailedError: the passphrase opens none of the keyslots that it may open.
            RateLimitedError: too many passphrases of this peer opened none; ``retry_after`` says how long
                to wait.
            IntegrityError: a keyslot, or the table of them, was damaged or replaced.
            ContentionError: the keyslots were changed meanwhile.
            NotFoundError: there is no keyslot ``name``.
            ConflictError: it is the last keyslot, without which nobody could unlock the store again.
        """
        request = request_of(m.SlotRemoveRequest, name=name)
        invocation = invocation_of(ops.SLOT_REMOVE, request, passphrase)
        return await self._client.perform(invocation, timeout)

    async def change(
        self,
        name: str,
        *,
        existing: Value,
        new: Value,
        timeout: float | None = None,
    ) -> m.SlotAddResult:
        """Give the keyslot that ``existing`` opens the passphrase ``new``.

        Raises:
            UnlockFailedError: ``existing`` does not open it.
            RateLimitedError: too many passphrases opened none; the message says how long to wait.
            NotFoundError: there is no such keyslot.
            ContentionError: the keyslots were changed meanwhile; try again.
            IntegrityError: a keyslot, or the table of them, was damaged or replaced; restore a backup.
        """
        invocation = slot_change(name, existing=existing, new=new)
        return await self._client.perform(invocation, timeout)
