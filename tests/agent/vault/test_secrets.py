"""Reading and writing secrets with an open vault: what becomes of their data keys, and what a fetch costs."""

from __future__ import annotations

import ctypes
import gc
from typing import TYPE_CHECKING

import pytest
import trio
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from trio.testing import wait_all_tasks_blocked

from keyholt_agent.keys import envelope

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from keyholt_agent.services import Services
    from tests.support.inside import Inside, Peer

KEY_SIZE = 32
SEALED_STATE = 40


def kept_keys(inside: Inside) -> list[bytes]:
    """The data keys that lie in the pages for them."""
    block = inside.services.vault.keyring.secrets.data_keys._block
    pages = ctypes.string_at(block.address, len(block))
    keys = (pages[at : at + KEY_SIZE] for at in range(0, len(pages), KEY_SIZE))
    return [key for key in keys if any(key)]


async def fetched(client: Peer, *paths: str) -> None:
    """Write and fetch secrets, so that their data keys are kept."""
    for path in paths:
        (await client.call("secret.put", path.encode(), path=path)).expect()
        assert (await client.call("secret.get", path=path)).payload == path.encode()


async def put(client: Peer) -> None:
    """The next version."""
    (await client.call("secret.put", b"new", path="a")).expect()


async def delete(client: Peer) -> None:
    """Hide it."""
    (await client.call("secret.delete", path="a")).expect()


async def destroy(client: Peer) -> None:
    """For good."""
    (await client.call("secret.destroy", path="a", version=1)).expect()


async def destroy_deleted(client: Peer) -> None:
    """Of a hidden one."""
    await delete(client)
    await destroy(client)


@pytest.mark.parametrize("end", [put, delete, destroy, destroy_deleted])
async def test_data_key_is_zero_once_its_version_is_past(
    inside: Inside, end: Callable[[Peer], Awaitable[None]]
) -> None:
    """Replaced, deleted or destroyed: when that is answered the key is in the memory no more, others are."""
    client = await inside.connect()
    await fetched(client, "a")
    (key,) = kept_keys(inside)
    await fetched(client, "b")
    assert key in kept_keys(inside)
    await end(client)
    assert len(kept_keys(inside)) == 1
    assert key not in kept_keys(inside)
    assert (await client.call("secret.get", path="b")).payload == b"b"


async def test_data_key_of_an_older_version_is_not_kept(inside: Inside) -> None:
    """Only the latest of a path is, whatever is fetched by its number."""
    client = await inside.connect()
    await fetched(client, "a")
    (key,) = kept_keys(inside)
    await put(client)
    for _ in range(3):
        assert (await client.call("secret.get", path="a", version=1)).payload == b"a"
        assert not kept_keys(inside)
    assert (await client.call("secret.get", path="a")).payload == b"new"
    assert len(kept_keys(inside)) == 1
    assert kept_keys(inside) != [key]


async def test_lock_zeroes_every_data_key(inside: Inside) -> None:
    """Before it is answered; the memory goes back, and what was cached is gone."""
    client = await inside.connect()
    await fetched(client, *(f"path/{number}" for number in range(20)))
    assert len(kept_keys(inside)) == 20
    services = inside.services
    block = services.vault.keyring.secrets.data_keys._block
    address, size = block.address, len(block)
    used = services.arena.usage.used
    assert any(ctypes.string_at(address, size))
    (await client.call("agent.lock")).expect()
    assert not any(ctypes.string_at(address, size))
    assert services.arena.usage.used <= used - size
    assert (len(services.cache), services.cache.size) == (0, 0)
    status = (await client.call("agent.status")).expect().result
    assert status["memory_used"] == services.arena.usage.used
    assert status.get("cache_used", 0) == 0


async def test_fetch_of_a_cached_secret_is_one_opening(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first unwraps the data key and opens the value, every later one opens the value alone."""
    openings: list[int] = []

    class Counted:
        """Counts what is opened; no such object outlives its operation."""

        def __init__(self, key: memoryview) -> None:
            self._real = AESGCM(key)

        def encrypt(self, nonce: bytes, data: memoryview, associated: bytes) -> bytes:
            return self._real.encrypt(nonce, data, associated)

        def decrypt_into(self, nonce: bytes, data: bytes, associated: bytes, target: memoryview) -> int:
            if len(target) != SEALED_STATE:  # of which every write opens one, in the store's thread
                openings.append(len(target))
            return self._real.decrypt_into(nonce, data, associated, target)

    monkeypatch.setattr(envelope, "AESGCM", Counted)
    client = await inside.connect()
    (await client.call("secret.put", b"value", path="a")).expect()
    assert (await client.call("secret.get", path="a")).payload == b"value"
    assert openings == [KEY_SIZE, 5]
    for _ in range(3):
        assert (await client.call("secret.get", path="a")).payload == b"value"
    assert openings == [KEY_SIZE, 5, 5, 5, 5]
    assert not [one for one in gc.get_objects() if type(one) is Counted]


async def test_answers_are_the_same_cached_or_not(inside: Inside) -> None:
    """What is told beside a value does not depend on who asked before."""
    client = await inside.connect()
    labels = {"team": "db"}
    (await client.call("secret.put", b"v", path="a", labels=labels, expires=4_000_000_000)).expect()
    answers = []
    for _ in range(2):
        inside.services.cache.drop()
        for version in (None, None, 1):
            asked = {"path": "a"} if version is None else {"path": "a", "version": version}
            answers.append((await client.call("secret.get", **asked)).expect().result)
    assert answers[0]["labels"] == labels
    assert answers[0]["expires"] == 4_000_000_000
    assert all(answer == answers[0] for answer in answers)


async def test_whoever_leaves_the_line_of_a_path_hinders_nobody(services: Services) -> None:
    """Who waits in it or is alone with the path: the others come as they came, and no line is kept."""
    came: list[int] = []
    done = [trio.Event() for _ in range(5)]

    async def stand(number: int, scope: trio.CancelScope) -> None:
        with scope:
            async with services.secrets.alone("a"):
                came.append(number)
                await done[number].wait()

    scopes = [trio.CancelScope() for _ in done]
    async with trio.open_nursery() as nursery:
        for number, scope in enumerate(scopes):
            nursery.start_soon(stand, number, scope)
            await wait_all_tasks_blocked()
        scopes[2].cancel()
        scopes[0].cancel()
        await wait_all_tasks_blocked()
        assert came == [0, 1]
        for event in done:
            event.set()
    assert came == [0, 1, 3, 4]
    assert services.secrets._lines == {}
