"""The cache of secrets: its bound, what it holds ready, and the data keys that leave with their entries."""

from __future__ import annotations

import ctypes
import os
import tracemalloc
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from keyholt_agent.config import StoreSettings
from keyholt_agent.keys.data_keys import MOST
from keyholt_agent.keys.kdf import FLOOR
from keyholt_agent.keys.keyring import Keyring
from keyholt_agent.keys.keyslots import passphrase_slot
from keyholt_agent.keys.master_key import ReserveWraps
from keyholt_agent.keys.randomness import KERNEL
from keyholt_agent.keys.recipients import Identity
from keyholt_agent.keys.secrets import SealedSecret
from keyholt_agent.memory import LockedBuffer
from keyholt_agent.store import SecretVersion
from keyholt_agent.vault.metadata import Metadata
from keyholt_agent.vault.secret_cache import FetchableSecret, SecretCache
from keyholt_protocol.errors import IntegrityError, NotFoundError
from keyholt_protocol.messages import SecretGetResult
from keyholt_protocol.usual import pack_result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from keyholt_agent.memory import Arena

SLOT = passphrase_slot("main", 1, FLOOR, KERNEL)
METADATA = Metadata(created=1_700_000_000, expires=1_800_000_000, labels={"team": "db"})


@pytest.fixture
def keyring(arena: Arena) -> Iterator[Keyring]:
    """The keys of an open store."""
    with arena.allocate(32) as secret, Identity(arena, secret) as identity:
        keyring = Keyring.create(arena, SLOT, identity, "default", KERNEL)[0]
    yield keyring
    keyring.release()


@pytest.fixture
def cache(keyring: Keyring) -> SecretCache:
    """A cache of a megabyte that serves ``keyring``."""
    cache = SecretCache(1 << 20)
    cache.serve(keyring)
    return cache


def sealed(
    keyring: Keyring, path: str, version: int = 1, *, size: int = 64, metadata: bytes | None = None
) -> SecretVersion:
    """What the store would have of a secret."""
    master = keyring.masters.named("default")
    if isinstance(need := master.need(), ReserveWraps):
        master.granted(need)
    encoded = METADATA.encode() if metadata is None else metadata
    made = keyring.secrets.seal(master.permit(), path, version, encoded, memoryview(os.urandom(size)))
    assert isinstance(made, SealedSecret)
    return SecretVersion(version=version, metadata=encoded, wrapped_key=made.wrapped_key, value=made.value)


def cached(cache: SecretCache, path: str) -> FetchableSecret:
    """The entry of a path, which is there."""
    secret = cache.get(path, None)
    assert secret is not None
    return secret


def fetch(keyring: Keyring, secret: FetchableSecret) -> bytes:
    """Open it as a fetch does."""
    buffer = keyring.secrets.open(secret)
    assert isinstance(buffer, LockedBuffer)
    with buffer:
        secret.describe()
        return bytes(buffer.view)


def kept_keys(keyring: Keyring) -> int:
    """How many data keys lie in the pages."""
    block = keyring.secrets.data_keys._block
    pages = ctypes.string_at(block.address, len(block))
    return sum(any(pages[at : at + 32]) for at in range(0, len(pages), 32))


def test_bound_holds_and_the_least_recently_used_go_first(keyring: Keyring) -> None:
    """What was asked for outlives older and newer ones that were not; those that go leave no data key."""
    cache = SecretCache(20_000)
    cache.serve(keyring)
    for index in range(100):
        cache.keep(f"path/{index}", sealed(keyring, f"path/{index}"))
        fetch(keyring, cached(cache, f"path/{index}"))
        assert cache.size <= 20_000
        assert cache.get("path/0", None) is not None
        assert kept_keys(keyring) == len(cache)
    assert 10 < len(cache) < 30
    assert cache.get("path/99", None) is not None
    assert cache.get("path/1", None) is None
    for index in range(100):
        cache.evict(f"path/{index}")
    assert (len(cache), cache.size, kept_keys(keyring)) == (0, 0, 0)


def test_one_too_large_is_not_kept_and_its_predecessor_goes(keyring: Keyring, cache: SecretCache) -> None:
    """One big secret does not push out the others, nor does the version before it stay."""
    for path, version, size in (("small", 1, 64), ("large", 1, 64), ("large", 2, 150_000)):
        cache.keep(path, sealed(keyring, path, version, size=size))
    assert cache.get("large", None) is None
    assert cache.get("small", None) is not None


def test_only_the_version_asked_for(keyring: Keyring, cache: SecretCache) -> None:
    """The latest has its number; another one is not here."""
    cache.keep("a", sealed(keyring, "a", 2))
    assert cache.get("a", 2) is cache.get("a", None) is not None
    assert cache.get("a", 1) is None


@pytest.mark.parametrize("size", [64, 2000, 20_000])
def test_accounting_is_what_python_spends(arena: Arena, keyring: Keyring, size: int) -> None:
    """The bytes counted are within a tenth of the bytes allocated, once all of it was fetched."""
    cache = SecretCache(1 << 30)
    cache.serve(keyring)
    number = 20_000_000 // (size + 2000)
    rows = {}
    for index in range(number):
        path = f"application/{index}/password"
        metadata = Metadata(created=index, labels={"team": "db"}).encode()
        rows[path] = sealed(keyring, path, index + 1000, size=size, metadata=metadata)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for path, row in rows.items():
            # As from the store: every string and number is one of its own.
            new = str(path.encode(), "ascii")
            copy = SecretVersion(
                version=int(str(row.version)),
                metadata=row.metadata + b"",
                wrapped_key=bytes(bytearray(row.wrapped_key or b"")),
                value=bytes(bytearray(row.value or b"")),
            )
            cache.keep(new, copy)
            fetch(keyring, cached(cache, new))
        spent = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(cache) == number
    assert 0.9 < cache.size / spent < 1.1


def test_every_secret_of_the_usual_cache_has_a_seat(keyring: Keyring) -> None:
    """However small they are, the cache is full before the data keys are, so that no fetch is slower."""
    smallest = FetchableSecret(
        keyring, "a", sealed(keyring, "a", size=0, metadata=Metadata(created=0).encode())
    )
    assert StoreSettings().cache // smallest.cost <= MOST


def test_result_is_ready_once_the_value_has_opened(keyring: Keyring, cache: SecretCache) -> None:
    """Before that there is none: what is stored beside a value is authentic only together with it."""
    cache.keep("a", sealed(keyring, "a", 7))
    secret = cached(cache, "a")
    assert not hasattr(secret, "result")
    fetch(keyring, secret)
    expected = SecretGetResult(
        version=7, created=METADATA.created, expires=METADATA.expires, labels=METADATA.labels
    )
    assert (secret.result, secret.expires) == (pack_result(expected), METADATA.expires)


def test_changed_metadata_is_never_told(keyring: Keyring, cache: SecretCache) -> None:
    """The value does not open with it, so nothing is described; what opens but is no metadata is refused."""
    changed = replace(METADATA, expires=None).encode()
    cache.keep("a", replace(sealed(keyring, "a"), metadata=changed))
    for _ in range(2):
        with pytest.raises(IntegrityError):
            fetch(keyring, cached(cache, "a"))
    assert not hasattr(cached(cache, "a"), "result")
    assert kept_keys(keyring) == 0
    cache.keep("b", sealed(keyring, "b", metadata=b"\xc1"))
    with pytest.raises(IntegrityError, match="metadata"):
        fetch(keyring, cached(cache, "b"))
    assert not hasattr(cached(cache, "b"), "result")


def test_what_cannot_be_taken_apart_is_not_kept(keyring: Keyring, cache: SecretCache) -> None:
    """Damage is told by whoever reads it from the store, and a destroyed version is none."""
    row = sealed(keyring, "a")
    cache.keep("a", row)
    assert len(cache) == 1
    cache.keep("a", replace(row, value=b"damaged"))
    assert len(cache) == 0
    with pytest.raises(IntegrityError):
        FetchableSecret(keyring, "a", replace(row, value=b"damaged"))
    destroyed = replace(row, wrapped_key=None, value=None)
    cache.keep("a", destroyed)
    assert len(cache) == 0
    with pytest.raises(NotFoundError, match="was destroyed"):
        FetchableSecret(keyring, "a", destroyed)


def test_data_key_is_kept_from_the_first_fetch_on(keyring: Keyring, cache: SecretCache) -> None:
    """From then on a fetch needs no master key; a version that is not cached has none kept."""
    row = sealed(keyring, "a")
    cache.keep("a", row)
    fetch(keyring, FetchableSecret(keyring, "a", row))
    assert kept_keys(keyring) == 0
    value = fetch(keyring, cached(cache, "a"))
    assert kept_keys(keyring) == 1
    keyring.masters.release()
    assert fetch(keyring, cached(cache, "a")) == value
    with pytest.raises(IntegrityError):  # the control: without the data key the master key is needed
        fetch(keyring, FetchableSecret(keyring, "a", row))


def test_data_key_leaves_with_its_entry(keyring: Keyring, cache: SecretCache) -> None:
    """Evicted, replaced or dropped: its memory is zero at once, and no late opening brings it back."""
    leaving: list[Callable[[], None]] = [
        lambda: cache.evict("a"),
        lambda: cache.keep("a", sealed(keyring, "a", 99)),
        cache.drop,
        lambda: cache.serve(keyring),
    ]
    for number, leave in enumerate(leaving):
        cache.keep("a", sealed(keyring, "a", number + 1))
        secret = cached(cache, "a")
        fetch(keyring, secret)
        assert kept_keys(keyring) == 1
        leave()
        assert kept_keys(keyring) == 0
        assert cache.get("a", number + 1) is None
        fetch(keyring, secret)
        assert kept_keys(keyring) == 0


def test_dropping_forgets_what_was_never_fetched(keyring: Keyring, cache: SecretCache) -> None:
    """Who is still opening it is not to have its data key kept; and a new epoch begins."""
    cache.keep("a", sealed(keyring, "a"))
    secret, epoch = cached(cache, "a"), cache.epoch
    cache.drop()
    assert (len(cache), cache.size, cache.epoch) == (0, 0, epoch + 1)
    fetch(keyring, secret)
    assert kept_keys(keyring) == 0


def test_cache_without_keys_keeps_nothing(keyring: Keyring) -> None:
    """As of a locked agent, which can open nothing; what it had is gone with the keys."""
    cache = SecretCache(1 << 20)
    row = sealed(keyring, "a")
    cache.keep("a", row)
    assert len(cache) == 0
    cache.serve(keyring)
    cache.keep("a", row)
    assert len(cache) == 1
    cache.serve(None)
    assert (len(cache), cache.size) == (0, 0)
    cache.keep("a", row)
    assert len(cache) == 0
