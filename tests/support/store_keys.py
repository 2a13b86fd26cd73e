"""The keys of a store, and the traces of them, worked out from its file and its passphrases.

With plain library calls and the documented formats, and nothing of the agent's code: so a store can be opened
by a program that knows nothing but the documentation.
"""

from __future__ import annotations

import hashlib
import hmac
import shutil
import sqlite3
import struct
from contextlib import closing
from typing import TYPE_CHECKING, Final

from argon2.low_level import Type, hash_secret_raw
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import ECB

from tests.support.hpke_traces import open_traced, pair_traced
from tests.support.key_traces import gcm_traces, hmac_traces

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["keys_of"]

KEYSTREAM: Final = 1024
"""Bytes of what GCM adds to a plaintext that are given."""

_RECORD_HEADER: Final = 30
_BODY: Final = 42
_TAG: Final = 16
_SLOT_HEAD: Final = 94

_CONFIRMATION: Final = slice(62, 94)

Secrets = dict[str, bytes]


def keys_of(
    state: Path, passphrases: Mapping[str, bytes], values: Mapping[str, bytes]
) -> tuple[Secrets, Secrets]:
    """The keys of a store in use, and the traces that operations with them may leave, each by a name.

    Args:
        state: the store's directory, of which a copy is read.
        passphrases: of its keyslots, by their names.
        values: secrets whose data keys are wanted, by their paths.
    """
    copy = state.with_name("copy")
    shutil.copytree(state, copy)
    try:
        with closing(sqlite3.connect(copy / "store.db")) as database:
            keys, traces = _open_slots(database, passphrases)
            _open_secrets(database, keys, traces, values)
    finally:
        shutil.rmtree(copy)
    for name, key in keys.items():
        traces |= hmac_traces(name, key) if "confirmation" in name or "MAC" in name else gcm_traces(name, key)
    return keys, traces


def _open_slots(database: sqlite3.Connection, passphrases: Mapping[str, bytes]) -> tuple[Secrets, Secrets]:
    keys, traces = Secrets(), Secrets()
    store_id = _store_id(database)
    for name, header, wrapped in database.execute(
        "SELECT name, header, wrapped_root FROM keyslot"
    ).fetchall():
        if name in passphrases:
            key, prehash = _slot_key(header, passphrases[name])
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
    return keys, traces


def _open_secrets(
    database: sqlite3.Connection, keys: Secrets, traces: Secrets, values: Mapping[str, bytes]
) -> None:
    store_id = _store_id(database)
    masters: dict[int, bytes] = {}
    for row, name, key_id, version, wrapped in database.execute(
        "SELECT id, name, key_id, version, wrapped FROM master_key"
    ):
        masters[row] = _open_record(keys["wrap key"], wrapped, store_id, name.encode(), key_id + b"software")
        keys[f"master key {version}"] = masters[row]
    for path, value in values.items():
        metadata, sealed, master, wrapped = database.execute(
            "SELECT metadata, value, master_key, wrapped_key FROM secret "
            "JOIN secret_version ON secret_id = secret.id JOIN data_key ON data_key.id = secret_version.id "
            "WHERE path = ? AND version = latest",
            [path],
        ).fetchone()
        data_key = _open_record(masters[master], wrapped, store_id, path.encode(), metadata)
        assert _open_record(data_key, sealed, store_id, path.encode(), metadata) == value
        keys[f"data key of {path}"] = data_key
        ciphertext = sealed[_BODY:-_TAG][:KEYSTREAM]
        traces[f"keystream of {path}"] = bytes(a ^ b for a, b in zip(ciphertext, value, strict=False))


def _store_id(database: sqlite3.Connection) -> bytes:
    ((store_id,),) = database.execute("SELECT store_id FROM store_meta")
    return bytes(store_id)


def _slot_key(header: bytes, passphrase: bytes) -> tuple[bytes, bytes]:
    """The key of a passphrase keyslot, and what Argon2 hashes the passphrase to at first (RFC 9106, 3.2)."""
    name_size = int.from_bytes(header[_SLOT_HEAD : _SLOT_HEAD + 2], "big")
    _, time, memory, lanes, salt = struct.unpack(">BIII16s", header[_SLOT_HEAD + 2 + name_size + 2 :])
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
