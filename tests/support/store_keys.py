"""The keys of a store, and the traces of them, worked out from its file and its passphrases.

With plain library calls and the documented formats, and nothing of the agent's code: so a store can be opened
by a program that knows nothing but the documentation.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import shutil
import sqlite3
import struct
from contextlib import closing
from functools import cache
from typing import TYPE_CHECKING, Final

from argon2.low_level import Type, hash_secret_raw
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import ECB

from tests.support.blake2b_traces import blake2b_traces
from tests.support.derivations import cheapest
from tests.support.hpke_traces import open_traced, pair_traced
from tests.support.key_traces import gcm_traces, hmac_traces

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["keys_of", "opened_with", "reseal"]

KEYSTREAM: Final = 1024
"""Bytes of what GCM adds to a plaintext that are given."""

_RECORD_HEADER: Final = 30
_BODY: Final = 42
_TAG: Final = 16
_SLOT_HEAD: Final = 94

_CONFIRMATION: Final = slice(62, 94)

_RECORD_VERSION: Final = slice(26, 30)
_STATE: Final = 5

_MASTER_COLUMNS: Final = (
    "id, key_id, version, name, state, custody, created, wraps_reserved, retiring, wrapped"
)

_ELEMENTS: Final = (
    "SELECT id, store_id, created, slot_table_mac FROM store_meta",
    "SELECT position, name, kind, created, header, wrapped_root FROM keyslot",
    f"SELECT {_MASTER_COLUMNS} FROM master_key",
)
"""The columns of the small tables, by the table's number from 1."""

_LATEST: Final = (
    "SELECT metadata, value, master_key, wrapped_key FROM secret JOIN secret_version "
    "ON secret_id = secret.id JOIN data_key ON data_key.id = secret_version.id "
    "WHERE path = ? AND version = latest"
)

Secrets = dict[str, bytes]


def keys_of(
    state: Path, passphrases: Mapping[str, bytes], values: Mapping[str, bytes], *, cheap: bool = False
) -> tuple[Secrets, Secrets]:
    """The keys of a store in use, and the traces that operations with them may leave, each by a name.

    Args:
        state: the store's directory, of which a copy is read.
        passphrases: of its keyslots, by their names.
        values: secrets whose data keys are wanted, by their paths.
        cheap: whether it is the store of a prepared agent.
    """
    copy = state.with_name("copy")
    shutil.copytree(state, copy)
    try:
        with closing(sqlite3.connect(copy / "store.db")) as database:
            keys, traces = _open_slots(database, passphrases, cheap=cheap)
            _open_secrets(database, keys, traces, values)
    finally:
        shutil.rmtree(copy)
    for name, key in keys.items():
        traces |= _traces(name, key)
    return keys, traces


def _traces(name: str, key: bytes) -> Secrets:
    """What is made of a key by what it is for."""
    if "confirmation" in name or "MAC" in name:
        return hmac_traces(name, key)
    return blake2b_traces(name, key) if name == "element key" else gcm_traces(name, key)


def _open_slots(
    database: sqlite3.Connection, passphrases: Mapping[str, bytes], *, cheap: bool
) -> tuple[Secrets, Secrets]:
    keys, traces = Secrets(), Secrets()
    store_id = _store_id(database)
    for name, header, wrapped in database.execute(
        "SELECT name, header, wrapped_root FROM keyslot"
    ).fetchall():
        if name in passphrases:
            key, prehash = _slot_key(header, passphrases[name], cheap=cheap)
            traces[f"passphrase of slot {name}, hashed"] = prehash
            opened, of_slot, left = _open_slot(f"slot {name}", key, wrapped, _context(store_id, name, header))
            keys |= of_slot
            traces |= left
            keys["root key"], keys["confirmation secret"] = opened[:32], opened[32:]
            confirmed = hmac.digest(
                keys[f"confirmation key of slot {name}"],
                b"keyholt confirmation v1\0" + store_id + opened[32:],
                "sha256",
            )
            assert header[_CONFIRMATION] == confirmed
    keys["wrap key"] = _derive(keys["root key"], b"keyholt wrap")
    keys["slot MAC key"] = _derive(keys["root key"], b"keyholt slot")
    keys["element key"] = _derive(keys["root key"], b"keyholt elem")
    keys["seal key"] = _derive(keys["root key"], b"keyholt seal")
    return keys, traces


def _open_secrets(
    database: sqlite3.Connection, keys: Secrets, traces: Secrets, values: Mapping[str, bytes]
) -> None:
    store_id = _store_id(database)
    masters: dict[int, bytes] = {}
    for row, name, key_id, version, wrapped in database.execute(
        "SELECT id, name, key_id, version, wrapped FROM master_key WHERE state != 'destroyed'"
    ):
        masters[row] = _open_record(keys["wrap key"], wrapped, store_id, name.encode(), key_id + b"software")
        keys[f"master key {version}"] = masters[row]
    for path, value in values.items():
        metadata, sealed, master, wrapped = database.execute(_LATEST, [path]).fetchone()
        data_key = _open_record(masters[master], wrapped, store_id, path.encode(), metadata)
        assert _open_record(data_key, sealed, store_id, path.encode(), metadata) == value
        keys[f"data key of {path}"] = data_key
        ciphertext = sealed[_BODY:-_TAG][:KEYSTREAM]
        traces[f"keystream of {path}"] = bytes(a ^ b for a, b in zip(ciphertext, value, strict=False))


def opened_with(keys: Mapping[str, bytes], state: Path, path: str) -> bytes:
    """The value of a secret, with the newest master key among ``keys``, which may be of another time.

    Raises:
        InvalidTag: that key does not open it.
    """
    master = keys[
        max((name for name in keys if name.startswith("master key ")), key=lambda name: int(name[11:]))
    ]
    with closing(sqlite3.connect(state / "store.db")) as database:
        store_id = _store_id(database)
        metadata, sealed, _, wrapped = database.execute(_LATEST, [path]).fetchone()
    data_key = _open_record(master, wrapped, store_id, path.encode(), metadata)
    return _open_record(data_key, sealed, store_id, path.encode(), metadata)


def reseal(state: Path, keys: Mapping[str, bytes]) -> None:
    """Seal what the rows of a store that nobody has open come to, whatever they were before."""
    with closing(sqlite3.connect(state / "store.db")) as database, database:
        store_id = _store_id(database)
        ((record, wrapped_root),) = database.execute(
            "SELECT sealed_state, wrapped_root FROM store_meta JOIN keyslot ORDER BY position LIMIT 1"
        )
        root_version = wrapped_root[_RECORD_VERSION]
        header = b"KHLT" + bytes([1, _STATE]) + b"keyholt.rootseal" + root_version + bytes(4)
        assert record.startswith(header)
        commits = _open_record(keys["seal key"], record, store_id, b"state", b"")[:8]
        total = sum(_element(keys["element key"], row) for row in _element_rows(database)) % 2**256
        nonce, associated = os.urandom(12), header + _context(store_id, "state", b"")
        sealed = AESGCM(keys["seal key"]).encrypt(nonce, commits + total.to_bytes(32, "big"), associated)
        database.execute("UPDATE store_meta SET sealed_state = ?", [header + nonce + sealed])


def _element(key: bytes, row: bytes) -> int:
    """An element of the sealed state, by ``state_keys``."""
    digest = hashlib.blake2b(row, digest_size=32, key=key).digest()
    return int.from_bytes(digest, "big")


def _element_rows(database: sqlite3.Connection) -> Iterator[bytes]:
    """Every row as an element is made of it, by the field table of ``elements``."""
    for table, statement in enumerate(_ELEMENTS, 1):
        for row, *columns in database.execute(statement):
            yield bytes([table]) + _number(row) + b"".join(map(_column, columns))
    for row, latest, deleted_at, path in database.execute(
        "SELECT id, latest, deleted_at, CAST(path AS BLOB) FROM secret"
    ):
        there = deleted_at is not None
        yield b"\x04" + _number(row) + _number(latest) + bytes([there]) + _number(deleted_at or 0) + path
    for *numbers, value, metadata, wrapped_key in database.execute(
        "SELECT v.id, secret_id, version, created, master_key, value, metadata, wrapped_key "
        "FROM secret_version v JOIN data_key k ON k.id = v.id"
    ):
        absent = bytes([value is None])
        yield b"\x05" + b"".join(map(_number, numbers)) + absent + _column(metadata) + wrapped_key


def _column(value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return _number(value)
    text = value.encode() if isinstance(value, str) else value
    return struct.pack(">I", len(text)) + text


def _number(value: int) -> bytes:
    return value.to_bytes(8, "big", signed=True)


def _store_id(database: sqlite3.Connection) -> bytes:
    ((store_id,),) = database.execute("SELECT store_id FROM store_meta")
    return bytes(store_id)


@cache
def _slot_key(header: bytes, passphrase: bytes, *, cheap: bool) -> tuple[bytes, bytes]:
    """The key of a passphrase keyslot, and what Argon2 hashes the passphrase to at first (RFC 9106, 3.2)."""
    name_size = int.from_bytes(header[_SLOT_HEAD : _SLOT_HEAD + 2], "big")
    _, time, memory, lanes, salt = struct.unpack(">BIII16s", header[_SLOT_HEAD + 2 + name_size + 2 :])
    if cheap:
        salt, (time, memory, lanes) = cheapest(salt, (time, memory, lanes))
    prehash = hashlib.blake2b(
        struct.pack("<7I", lanes, 32, memory, time, 0x13, 2, len(passphrase)) + passphrase
        + struct.pack("<I", len(salt)) + salt + bytes(8)
    )  # fmt: skip
    return hash_secret_raw(passphrase, salt, time, memory, lanes, 32, Type.ID), prehash.digest()


def _open_slot(name: str, key: bytes, record: bytes, context: bytes) -> tuple[bytes, Secrets, Secrets]:
    """What is wrapped to a slot, by the field table of ``recipients``; the slot's keys, and the traces."""
    private, of_pair = pair_traced(name, key)
    sealed = record[_RECORD_HEADER:]
    opened, of_opening = open_traced(name, private, sealed, record[:_RECORD_HEADER] + context)
    confirming = hmac.digest(key, b"keyholt confirmation key v1", "sha256")
    keys = {
        f"key of {name}": key,
        f"private key of {name}": private,
        f"confirmation key of {name}": confirming,
    }
    return opened, keys, {**of_pair, **of_opening, **hmac_traces(f"key of {name}, for HMAC", key)}


def _derive(root: bytes, label: bytes) -> bytes:
    """A derived key: AES-256 of two successive counter blocks."""
    return Cipher(AES256(root), ECB()).encryptor().update(label + bytes(4) + label + b"\0\0\0\1")


def _open_record(key: bytes, record: bytes, store_id: bytes, path: bytes, metadata: bytes) -> bytes:
    """A record, by the field tables of ``envelope`` alone."""
    context = _context(store_id, path.decode(), metadata)
    nonce, header = record[_RECORD_HEADER:_BODY], record[:_RECORD_HEADER]
    return AESGCM(key).decrypt(nonce, record[_BODY:], header + context)


def _context(store_id: bytes, path: str, metadata: bytes) -> bytes:
    name = path.encode()
    return store_id + struct.pack(">I", len(name)) + name + struct.pack(">I", len(metadata)) + metadata
