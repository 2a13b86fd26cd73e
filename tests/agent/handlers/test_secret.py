"""``secret``: what is written is what is read, whoever else writes at the same time."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NoReturn

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from keyholt_agent.clocks import wall_time
from keyholt_agent.handlers import secret
from keyholt_agent.store import (
    Head,
    HeadMovedError,
    ListSecrets,
    Newest,
    PutSecret,
    SecretPage,
    SecretVersion,
    UndeleteSecret,
)
from keyholt_agent.vault.metadata import Metadata
from keyholt_protocol.codec import pack_header
from tests.support.intercepting import intercept

if TYPE_CHECKING:
    from tests.support.inside import Inside


@pytest.mark.parametrize("cached", [True, False])
async def test_put_only_where_nothing_is(inside: Inside, *, cached: bool) -> None:
    """``if_version`` 0: no live secret may be there, whether the cache knows of it or not."""
    client = await inside.connect()
    assert (await client.call("secret.put", b"one", path="a", if_version=0)).expect().result["version"] == 1
    if not cached:
        inside.services.cache.drop()
    assert (await client.call("secret.put", b"two", path="a", if_version=0)).code == "conflict"
    assert (await client.call("secret.get", path="a")).payload == b"one"
    (await client.call("secret.delete", path="a")).expect()
    assert (await client.call("secret.put", b"two", path="a", if_version=0)).expect().result["version"] == 2


async def test_put_builds_on_the_version_named(inside: Inside) -> None:
    """One behind, one ahead, or where nothing is: a conflict that says how things are."""
    client = await inside.connect()
    refused = await client.call("secret.put", b"x", path="a", if_version=1)
    assert (refused.code, refused.details["current_version"]) == ("conflict", 0)
    for version in (1, 2, 3):
        assert (await client.call("secret.put", b"%d" % version, path="a")).result["version"] == version
    for wrong in (1, 2, 4, 2**31 - 2):
        refused = await client.call("secret.put", b"x", path="a", if_version=wrong)
        assert refused.code == "conflict"
        assert "version 3" in refused.message
        assert refused.details == {"field": "if_version", "current_version": 3}
    assert (await client.call("secret.put", b"4", path="a", if_version=3)).result["version"] == 4


@pytest.mark.parametrize("cold", [True, False])
async def test_put_on_a_head_that_moved(inside: Inside, *, cold: bool) -> None:
    """A write sealed for a version that somebody else took is sealed anew for the next one; none is lost."""
    clients = [await inside.connect() for _ in range(8)]
    versions: list[int] = []

    async def write(number: int) -> None:
        for turn in range(10):
            if cold:
                inside.services.cache.drop()
            value = f"{number}/{turn}".encode()
            reply = (await clients[number].call("secret.put", value, path="contended")).expect()
            versions.append(reply.result["version"])
            read = (await clients[number].call("secret.get", path="contended", version=versions[-1])).expect()
            assert read.payload == value

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(write, number)
    assert sorted(versions) == list(range(1, 81))


async def test_writers_of_one_path_stand_in_line(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was too late is sealed once more, for the version that it gets; another path does not wait."""
    beside, *writers = [await inside.connect() for _ in range(18)]
    ask = inside.services.store.ask
    sealed: list[tuple[str, int]] = []
    go_on = trio.Event()

    async def counted(asked: PutSecret) -> SecretVersion:
        sealed.append((asked.path, asked.new.version))
        if asked.path == "a":
            await go_on.wait()
        return await ask(asked)

    intercept(monkeypatch, inside.services.store, PutSecret, counted)
    for peer in writers:
        await peer.request("secret.put", b"value", path="a")
    (await beside.call("secret.put", b"value", path="b")).expect()
    go_on.set()
    versions = [(await peer.receive()).expect().result["version"] for peer in writers]
    assert sorted(versions) == list(range(1, 18))
    assert sorted(sealed) == [*[("a", 1)] * 16, *(("a", version) for version in range(1, 18)), ("b", 1)]
    await wait_all_tasks_blocked()
    assert inside.services.secrets._lines == {}


async def test_put_gives_up_on_a_head_that_never_rests(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head that moves each time ends in an error, not in a loop."""
    tries: list[str] = []

    async def moved(asked: PutSecret) -> NoReturn:
        tries.append(asked.path)
        await trio.lowlevel.checkpoint()
        head = Head(latest=len(tries), deleted_at=None)
        raise HeadMovedError(asked.path, Newest(head=head, metadata=None, wrapped_key=None))

    intercept(monkeypatch, inside.services.store, PutSecret, moved)
    client = await inside.connect()
    assert (await client.call("secret.put", b"x", path="a")).code == "contention"
    assert len(tries) == 1 + secret.MAX_RETRIES


async def test_a_value_that_never_fits(inside: Inside) -> None:
    """``too_large``, with a limit that does fit; what only others leave no room for may be repeated."""
    client, arena = await inside.connect(), inside.services.arena
    refused = await client.call("secret.put", bytes(arena.size), path="a")
    assert (refused.code, "RLIMIT_MEMLOCK" in refused.message) == ("too_large", True)
    limit = refused.details["limit"]
    assert (await client.call("secret.put", bytes(limit + 1), path="a")).code == "too_large"
    (await client.call("secret.put", bytes(limit), path="a")).expect()
    assert len((await client.call("secret.get", path="a")).expect().payload) == limit
    with arena.allocate(arena.size // 4):
        for op, value in (("secret.get", b""), ("secret.put", bytes(limit))):
            assert (await client.call(op, value, path="a")).code == "resource_exhausted"
    with arena.allocate(arena.size // 4, lasting=True):  # as in an agent that was given less
        too_large = await client.call("secret.get", path="a")
    assert too_large.code == "too_large"
    assert too_large.details["limit"] < limit
    assert inside.held == 0


async def test_last_version_of_all(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the last version that there can be the path is used up, and says so."""
    monkeypatch.setattr(secret, "MAX_VERSION", 2)
    client = await inside.connect()
    for _ in range(2):
        (await client.call("secret.put", b"x", path="a")).expect()
    assert (await client.call("secret.put", b"x", path="a")).code == "too_large"


async def test_expiry(inside: Inside) -> None:
    """Expired, a version is given out by number only; a new one makes the secret whole again."""
    client = await inside.connect()
    now = wall_time()
    (await client.call("secret.put", b"old", path="a", expires=now - 1)).expect()
    refused = await client.call("secret.get", path="a")
    assert (refused.code, "expired" in refused.message) == ("not_found", True)
    assert (await client.call("secret.get", path="a", version=1)).payload == b"old"
    (await client.call("secret.put", b"new", path="a", expires=now + 1000)).expect()
    assert (await client.call("secret.get", path="a")).expect().result["expires"] == now + 1000
    assert inside.held == 0


async def test_listings_mark_what_is_not_given_out(inside: Inside) -> None:
    """An entry says that its newest value has expired or is destroyed; a history, of each version."""
    client = await inside.connect()
    past, future = wall_time() - 1, wall_time() + 1000
    for path, expires in (("past", past), ("future", future), ("gone", past)):
        (await client.call("secret.put", b"v", path=path)).expect()
        (await client.call("secret.put", b"v", path=path, expires=expires)).expect()
    (await client.call("secret.destroy", path="gone", version=2)).expect()
    (await client.call("secret.destroy", path="future", version=1)).expect()  # it is not the newest
    seen = {
        info["path"]: {name for name in ("expired", "destroyed") if info.get(name)}
        for info in (await client.call("secret.list")).expect().result["secrets"]
    }
    assert seen == {"past": {"expired"}, "future": set(), "gone": {"expired", "destroyed"}}
    for path in ("past", "gone"):
        assert (await client.call("secret.get", path=path)).code == "not_found"
    versions = (await client.call("secret.history", path="gone")).expect().result["versions"]
    assert [(one.get("expired", False), one.get("destroyed", False)) for one in versions] == [
        (True, True),
        (False, False),
    ]


async def test_delete_undelete_destroy(inside: Inside) -> None:
    """A tombstone hides all versions and is taken away whole; a destroyed version is gone for good."""
    client = await inside.connect()
    for value in (b"one", b"two"):
        (await client.call("secret.put", value, path="a", labels={"v": value.decode()})).expect()
    assert (await client.call("secret.undelete", path="a")).code == "already_exists"
    assert (await client.call("secret.delete", path="a")).result == {"version": 2}
    for op in ("secret.get", "secret.delete"):
        assert (await client.call(op, path="a")).code == "not_found"
    assert (await client.call("secret.list")).result["secrets"] == []
    assert (await client.call("secret.history", path="a")).result["deleted"] > 0
    assert (await client.call("secret.undelete", path="a")).result == {"version": 2}
    assert (await client.call("secret.get", path="a")).payload == b"two"
    for _ in range(2):
        assert (await client.call("secret.destroy", path="a", version=2)).result == {"version": 2}
    for version in ({}, {"version": 2}):
        refused = await client.call("secret.get", path="a", **version)
        assert (refused.code, "destroyed" in refused.message) == ("not_found", True)
    assert (await client.call("secret.get", path="a", version=1)).payload == b"one"
    assert (await client.call("secret.put", b"3", path="a")).result["version"] == 3
    for op in ("secret.delete", "secret.undelete", "secret.history", "secret.get"):
        assert (await client.call(op, path="never")).code == "not_found"
    assert (await client.call("secret.destroy", path="never", version=1)).code == "not_found"
    assert (await client.call("secret.destroy", path="a", version=9)).code == "not_found"


async def test_pages_hold_what_a_header_holds(inside: Inside) -> None:
    """Entries with the largest labels that there can be: pages end early, and hold each entry once."""
    client = await inside.connect()
    labels = {f"k{number:02}" + "é" * 30: "ü" * 128 for number in range(16)}
    paths = [f"{'p' * 500}/{number:02}" for number in range(30)]
    for path in paths:
        (await client.call("secret.put", b"", path=path, labels=labels)).expect()
    found: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = (await client.call("secret.list", **after)).expect().result
        found += [entry["path"] for entry in page["secrets"]]
        if "next" not in page:
            break
        after = {"after": page["next"]}
    assert found == paths
    for _ in range(20):
        (await client.call("secret.put", b"", path=paths[0], labels=labels)).expect()
    versions: list[int] = []
    before: dict[str, int] = {}
    while True:
        page = (await client.call("secret.history", path=paths[0], **before)).expect().result
        versions += [entry["version"] for entry in page["versions"]]
        if "next" not in page:
            break
        before = {"before": page["next"]}
    assert versions == list(range(21, 0, -1))


async def test_put_on_a_deleted_version(inside: Inside) -> None:
    """A deleted secret is there for version 0 and without a condition; its number does not bring it back."""
    client = await inside.connect()
    for number in range(3):
        (await client.call("secret.put", b"%d" % number, path="a")).expect()
    (await client.call("secret.delete", path="a")).expect()
    for wrong in (1, 2, 3, 4):
        refused = await client.call("secret.put", b"x", path="a", if_version=wrong)
        assert (refused.code, "is deleted" in refused.message) == ("conflict", True)
    assert (await client.call("secret.get", path="a")).code == "not_found"
    assert (await client.call("secret.put", b"4", path="a", if_version=0)).expect().result["version"] == 4
    assert (await client.call("secret.put", b"x", path="a", if_version=0)).code == "conflict"
    (await client.call("secret.delete", path="a")).expect()
    assert (await client.call("secret.put", b"5", path="a")).expect().result["version"] == 5
    assert (await client.call("secret.get", path="a")).payload == b"5"


async def test_put_anew_beside_an_undelete(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """Version 0 writes over a deleted secret, and not over one that is undeleted in between."""
    client, store = await inside.connect(), inside.services.store
    (await client.call("secret.put", b"one", path="a")).expect()
    (await client.call("secret.delete", path="a")).expect()
    ask = store.ask

    async def put_later(asked: PutSecret) -> SecretVersion:
        if asked.new.version == 2:
            await ask(UndeleteSecret(path=asked.path))
        return await ask(asked)

    intercept(monkeypatch, store, PutSecret, put_later)
    assert (await client.call("secret.put", b"two", path="a", if_version=0)).code == "conflict"
    assert (await client.call("secret.get", path="a")).payload == b"one"


LABELS = {f"k{number:02}" + "é" * 30: "ü" * 128 for number in range(16)}


async def test_page_costs_what_it_shows(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many entries with large labels only those of the page are decoded, however many were asked for."""
    client = await inside.connect()
    for number in range(40):
        (await client.call("secret.put", b"", path=f"a/{number}", labels=LABELS)).expect()
        (await client.call("secret.put", b"", path="b", labels=LABELS)).expect()
    decoded: list[bytes] = []
    decode = Metadata.decode

    def counted(encoded: bytes) -> Metadata:
        decoded.append(encoded)
        return decode(encoded)

    monkeypatch.setattr(Metadata, "decode", counted)
    for op, entries, where in (("list", "secrets", {"prefix": "a/"}), ("history", "versions", {"path": "b"})):
        decoded.clear()
        page = (await client.call(f"secret.{op}", **where)).expect().result
        assert 5 < len(page[entries]) == len(decoded) < 40
        assert "next" in page


@pytest.mark.parametrize(
    "metadata",
    [
        {"created": 1, "labels": {"o\x1b]0;title\x07": "x"}},
        {"created": 1, "labels": {"o": "\x1b[2J"}},
        {"created": 253_402_300_800},
        {"created": -1},
        {"created": 1, "expires": 2**53},
        {"created": 1, "expires": -1},
    ],
    ids=["key", "value", "created late", "created early", "expires late", "expires early"],
)
async def test_listing_shows_nothing_that_could_not_be_written(
    inside: Inside, monkeypatch: pytest.MonkeyPatch, metadata: dict[str, object]
) -> None:
    """Metadata are shown before they are authenticated: what breaks their rules is marked as damaged."""
    client = await inside.connect()
    monkeypatch.setattr(Metadata, "encode", lambda _: pack_header(metadata))
    (await client.call("secret.put", b"v", path="a")).expect()
    monkeypatch.undo()
    (await client.call("secret.put", b"v", path="b")).expect()
    bad, good = (await client.call("secret.list")).expect().result["secrets"]
    assert bad == {"path": "a", "version": 1, "created": 0, "damaged": True}
    assert "damaged" not in good
    (version,) = (await client.call("secret.history", path="a")).expect().result["versions"]
    assert version == {"version": 1, "created": 0, "damaged": True}
    assert (await client.call("secret.get", path="a")).code == "integrity"


async def test_listing_leaves_out_what_nobody_could_ask_for(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paths with controls, or of no text at all, which only an edited file has: the others are listed."""
    client, store = await inside.connect(), inside.services.store
    for path in "acegi":
        (await client.call("secret.put", b"v", path=path)).expect()
    ask = store.ask

    async def tampered(asked: ListSecrets) -> SecretPage:
        found = (await ask(asked)).secrets
        odd = dict(zip("cei", ("c\x1b[31m\nfake/line", "e\udcff", "i\x07"), strict=True))
        renamed = [dataclasses.replace(one, path=odd.get(one.path, one.path)) for one in found]
        return SecretPage(secrets=renamed, scanned_to=None)

    intercept(monkeypatch, store, ListSecrets, tampered)
    result = (await client.call("secret.list")).expect().result
    assert [entry["path"] for entry in result["secrets"]] == ["a", "g"]
    assert "next" not in result
    result = (await client.call("secret.list", limit=2)).expect().result
    assert ([entry["path"] for entry in result["secrets"]], result["next"]) == (["a"], "a")
