"""What a write keeps of the version before: labels and expiry, unless it says otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio

from keyholt_agent.clocks import wall_time
from keyholt_agent.store import PutSecret, ReadNewest, SecretVersion, UndeleteSecret
from tests.agent.vault.stored import change_behind
from tests.support.intercepting import Gate, intercept

if TYPE_CHECKING:
    from tests.support.inside import Inside, Peer

LABELS = {"team": "pay", "env": "prod"}
LATER = wall_time() + 100_000


async def kept(client: Peer, path: str = "a") -> dict[str, Any]:
    """What a fetch says of labels and expiry."""
    result = (await client.call("secret.get", path=path)).expect().result
    return {name: result[name] for name in ("labels", "expires") if name in result}


@pytest.mark.parametrize("cached", ["fetched", "written", "not"])
@pytest.mark.parametrize("if_version", [None, 1])
async def test_what_is_not_said_is_kept(inside: Inside, cached: str, if_version: int | None) -> None:
    """Whether the version before was fetched, only written, or is not in the cache."""
    client = await inside.connect()
    (await client.call("secret.put", b"one", path="a", labels=LABELS, expires=LATER)).expect()
    if cached == "fetched":
        await kept(client)
    elif cached == "not":
        inside.services.cache.drop()
    expected = {} if if_version is None else {"if_version": if_version}
    assert (await client.call("secret.put", b"two", path="a", **expected)).expect().result["version"] == 2
    assert await kept(client) == {"labels": LABELS, "expires": LATER}
    inside.services.cache.drop()
    assert await kept(client) == {"labels": LABELS, "expires": LATER}
    assert inside.held == 0


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize(
    "said,then",
    [
        ({"labels": {}}, {"expires": LATER}),
        ({"expires": 0}, {"labels": LABELS}),
        ({"labels": {}, "expires": 0}, {}),
        ({"labels": {"other": "one"}}, {"labels": {"other": "one"}, "expires": LATER}),
        ({"expires": LATER + 1}, {"labels": LABELS, "expires": LATER + 1}),
    ],
)
async def test_what_is_said_is_in_the_place_of_what_was(
    inside: Inside, said: dict[str, object], then: dict[str, object], *, cached: bool
) -> None:
    """Each for itself: labels as a whole, the expiry, or none of either."""
    client = await inside.connect()
    (await client.call("secret.put", b"one", path="a", labels=LABELS, expires=LATER)).expect()
    if not cached:
        inside.services.cache.drop()
    (await client.call("secret.put", b"two", path="a", **said)).expect()
    assert await kept(client) == then


async def test_an_expiry_that_has_passed_is_not_kept(inside: Inside) -> None:
    """Or the new version would never be given out; the labels are."""
    client = await inside.connect()
    (await client.call("secret.put", b"one", path="a", labels=LABELS, expires=wall_time() - 1)).expect()
    (await client.call("secret.put", b"two", path="a")).expect()
    assert await kept(client) == {"labels": LABELS}


@pytest.mark.parametrize("if_version", [{}, {"if_version": 0}])
async def test_a_deleted_secret_is_written_anew(inside: Inside, if_version: dict[str, int]) -> None:
    """Nothing is kept from behind a tombstone; once it is taken away, all is again."""
    client = await inside.connect()
    (await client.call("secret.put", b"one", path="a", labels=LABELS, expires=LATER)).expect()
    (await client.call("secret.delete", path="a")).expect()
    (await client.call("secret.put", b"two", path="a", **if_version)).expect()
    assert await kept(client) == {}
    (await client.call("secret.put", b"three", path="a", labels=LABELS)).expect()
    (await client.call("secret.delete", path="a")).expect()
    (await client.call("secret.undelete", path="a")).expect()
    (await client.call("secret.put", b"four", path="a")).expect()
    assert await kept(client) == {"labels": LABELS}


async def test_nothing_is_kept_of_a_destroyed_version(inside: Inside) -> None:
    """Its key is gone that what is stored beside it was bound to."""
    client = await inside.connect()
    (await client.call("secret.put", b"one", path="a", labels=LABELS)).expect()
    (await client.call("secret.destroy", path="a", version=1)).expect()
    (await client.call("secret.put", b"two", path="a")).expect()
    assert await kept(client) == {}


async def test_of_two_writers_each_keeps_what_the_other_changed(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One changes the labels and one the value, and both have read the same version before."""
    writer, other, store = await inside.connect(), await inside.connect(), inside.services.store
    (await writer.call("secret.put", b"one", path="a", labels=LABELS)).expect()
    gate = Gate(store, monkeypatch, PutSecret)
    await writer.request("secret.put", b"two", path="a")
    await gate.wait()
    monkeypatch.undo()
    (await other.call("secret.put", b"one", path="a", labels={"new": "label"}, expires=LATER)).expect()
    gate.go_on()
    assert (await writer.receive()).expect().result["version"] == 3
    assert await kept(writer) == {"labels": {"new": "label"}, "expires": LATER}


async def test_many_writers_lose_no_label(inside: Inside) -> None:
    """Half of them write values, and half labels, all at once: each value has the labels of before it."""
    clients = [await inside.connect() for _ in range(8)]

    async def write(number: int) -> None:
        for turn in range(5):
            said = {"labels": {"by": f"{number}/{turn}"}} if number % 2 else {}
            (await clients[number].call("secret.put", b"v", path="a", **said)).expect()

    (await clients[0].call("secret.put", b"v", path="a", labels={"by": "nobody"})).expect()
    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(write, number)
    versions = (await clients[0].call("secret.history", path="a")).expect().result["versions"]
    seen = [version["labels"]["by"] for version in reversed(versions)]
    changes = [one for number, one in enumerate(seen) if number == 0 or seen[number - 1] != one]
    assert len(seen) == 41
    assert sorted(changes) == sorted(set(changes))
    assert len(changes) == 21


async def test_a_write_beside_an_undelete_keeps_what_is_back(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that was to begin anew finds the secret alive: then it keeps."""
    client, store = await inside.connect(), inside.services.store
    (await client.call("secret.put", b"one", path="a", labels=LABELS)).expect()
    (await client.call("secret.delete", path="a")).expect()
    ask, undeleted = store.ask, False

    async def put_later(asked: PutSecret) -> SecretVersion:
        nonlocal undeleted
        if asked.new.version == 2 and not undeleted:
            undeleted = True
            await ask(UndeleteSecret(path=asked.path))
        return await ask(asked)

    intercept(monkeypatch, store, PutSecret, put_later)
    (await client.call("secret.put", b"two", path="a")).expect()
    assert undeleted
    assert await kept(client) == {"labels": LABELS}


async def test_forged_labels_do_not_become_authentic(inside: Inside) -> None:
    """Labels that were changed in the file are not sealed into the next version; both said, it is written."""
    client = await inside.connect()
    (await client.call("secret.put", b"one", path="a", labels={"env": "test"})).expect()
    inside.services.cache.drop()
    newest = await inside.services.store.ask(ReadNewest(path="a"))
    assert newest.metadata is not None
    forged = newest.metadata.replace(b"test", b"prod")
    await change_behind(inside.services, f"UPDATE secret_version SET metadata = x'{forged.hex()}'")
    refused = await client.call("secret.put", b"two", path="a")
    assert (refused.code, "say both" in refused.message) == ("integrity", True)
    (await client.call("secret.put", b"two", path="a", labels={}, expires=0)).expect()
    assert await kept(client) == {}
