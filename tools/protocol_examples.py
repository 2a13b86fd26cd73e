"""One exchange for each operation, encoded by the real codec, its bytes explained line by line.

- A message that could not be made, or that the codec would not read again, stops the reference.
- Bytes are explained by encoding each part again: the parts, joined, must be the frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Sized
from dataclasses import dataclass
from typing import Any, Final, cast

import msgpack

from keyholt_protocol import messages as m
from keyholt_protocol.codec import from_map, pack_header, to_map, unpack_header
from keyholt_protocol.framing import frame_head
from keyholt_protocol.limits import (
    MAX_IN_FLIGHT,
    MAX_RESPONSE_HEADER,
    MAX_VALUE,
    PREFIX_SIZE,
    PROTOCOL_VERSION,
)
from keyholt_protocol.operations import Operation

__all__ = ["EXAMPLES", "Example", "annotated"]

BYTES_PER_LINE: Final = 16
_WIDTH: Final = 3 * BYTES_PER_LINE + 12
"""Characters before the explanation: entries stand up to four levels deep."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A request and its result, with their payloads."""

    request: Any
    result: Any
    payload: bytes = b""
    result_payload: bytes = b""


_PATH: Final = "prod/db"
_CREATED: Final = 1_760_000_000
_KDF: Final = "argon2id t=3 m=65536 p=4"

EXAMPLES: Final = {
    "session.hello": Example(
        request=m.SessionHelloRequest(version=PROTOCOL_VERSION, client="doc 1"),
        result=m.SessionHelloResult(
            version=PROTOCOL_VERSION,
            agent="keyholt-agent 0.1.0",
            max_value=MAX_VALUE,
            max_in_flight=MAX_IN_FLIGHT,
            features=("hand-out",),
        ),
    ),
    "store.init": Example(
        request=m.StoreInitRequest(),
        payload=b"correct horse",
        result=m.StoreInitResult(store_id="00112233445566778899aabbccddeeff", slot="passphrase", kdf=_KDF),
    ),
    "store.rekey": Example(
        request=m.StoreRekeyRequest(),
        result=m.StoreRekeyResult(root_version=2, to_rewrap=12),
    ),
    "agent.status": Example(
        request=m.AgentStatusRequest(),
        result=m.AgentStatusResult(
            state="uninitialised",
            version="0.1.0",
            protocol=PROTOCOL_VERSION,
            pid=4711,
            uptime=60,
            store_path="/var/lib/keyholt/store.db",
            connections=1,
            memory_backend="memfd_secret",
            memory_size=1_048_576,
            memory_used=65_536,
            core_dumps=False,
            cache_limit=33_554_432,
        ),
    ),
    "agent.unlock": Example(
        request=m.AgentUnlockRequest(),
        payload=b"correct horse",
        result=m.AgentUnlockResult(slot="passphrase"),
    ),
    "agent.lock": Example(request=m.AgentLockRequest(), result=m.AgentLockResult()),
    "slot.list": Example(
        request=m.SlotListRequest(),
        result=m.SlotListResult(
            slots=(m.SlotInfo(name="passphrase", kind="passphrase", created=_CREATED, kdf=_KDF),)
        ),
    ),
    "slot.add": Example(
        request=m.SlotAddRequest(name="spare"),
        payload=b"\0\0\0\x0dcorrect horsebattery staple",
        result=m.SlotAddResult(name="spare", kdf=_KDF),
    ),
    "slot.remove": Example(
        request=m.SlotRemoveRequest(name="spare"),
        payload=b"correct horse",
        result=m.SlotRemoveResult(name="spare"),
    ),
    "secret.put": Example(
        request=m.SecretPutRequest(path=_PATH, if_version=0, labels={"team": "web"}),
        payload=b"s3cret",
        result=m.SecretPutResult(version=1, created=_CREATED),
    ),
    "secret.get": Example(
        request=m.SecretGetRequest(path=_PATH),
        result=m.SecretGetResult(version=1, created=_CREATED, labels={"team": "web"}),
        result_payload=b"s3cret",
    ),
    "secret.list": Example(
        request=m.SecretListRequest(prefix="prod/", limit=1),
        result=m.SecretListResult(
            secrets=(m.SecretInfo(path=_PATH, version=1, created=_CREATED),),
            next=_PATH,
        ),
    ),
    "secret.history": Example(
        request=m.SecretHistoryRequest(path=_PATH),
        result=m.SecretHistoryResult(
            latest=2,
            versions=(
                m.SecretVersionInfo(version=2, created=_CREATED + 60),
                m.SecretVersionInfo(version=1, created=_CREATED, destroyed=True),
            ),
        ),
    ),
    "secret.delete": Example(
        request=m.SecretDeleteRequest(path=_PATH), result=m.SecretDeleteResult(version=2)
    ),
    "secret.undelete": Example(
        request=m.SecretUndeleteRequest(path=_PATH), result=m.SecretUndeleteResult(version=2)
    ),
    "secret.destroy": Example(
        request=m.SecretDestroyRequest(path=_PATH, version=1), result=m.SecretDestroyResult(version=1)
    ),
    "secret.move": Example(
        request=m.SecretMoveRequest(path=_PATH, to="old/db"), result=m.SecretMoveResult(version=2)
    ),
    "secret.copy": Example(
        request=m.SecretCopyRequest(path=_PATH, to="test/db"), result=m.SecretCopyResult(version=2)
    ),
    "secret.purge": Example(
        request=m.SecretPurgeRequest(path=_PATH, if_version=2), result=m.SecretPurgeResult(version=2)
    ),
}


def annotated(operation: Operation[Any, Any], example: Example) -> str:
    """The two frames of an exchange, every byte with what it means."""
    _check(operation.request, example.request)
    _check(operation.result, example.result)
    request_id = 1 if operation.name == "session.hello" else 2
    request = {"id": request_id, "op": operation.name, "args": to_map(example.request)}
    result = {"id": request_id, "ok": True, "result": to_map(example.result)}
    return "\n".join(
        [
            "the client sends",
            *_frame(request, example.payload),
            "the agent answers",
            *_frame(result, example.result_payload),
        ]
    )


def _check(cls: type[Any], message: object) -> None:
    if from_map(cls, unpack_header(pack_header(to_map(message)))) != message:
        raise AssertionError(f"the example of {cls.__name__} does not survive the codec")


def _frame(header: dict[str, object], payload: bytes) -> Iterator[str]:
    head = frame_head(pack_header(header), len(payload), MAX_RESPONSE_HEADER)
    parts = [
        (head[:4], 0, f"H = {len(head) - PREFIX_SIZE}"),
        (head[4:PREFIX_SIZE], 0, f"P = {len(payload)}"),
        *_explain(header, b"", "", 0),
    ]
    if b"".join(part for part, _, _ in parts) != head:
        raise AssertionError("the explanation is not of the frame's bytes")
    if payload:
        shown = "".join(char if char.isprintable() else "." for char in payload.decode())
        parts.append((payload, 0, f"the payload: {shown}"))
    for data, depth, note in parts:
        yield from _lines(data, depth, note)


def _explain(value: object, key: bytes, name: str, depth: int) -> Iterator[tuple[bytes, int, str]]:
    """The bytes of a value after those of its key, and what they mean; entries follow one level deeper."""
    label = f"{name}: " if name else ""
    if isinstance(value, dict):
        entries = cast("dict[str, object]", value)
        yield key + _container_head(entries), depth, f"{label}map of {len(entries)}"
        for inner, item in entries.items():
            yield from _explain(item, msgpack.packb(inner), inner, depth + 1)
    elif isinstance(value, list):
        items = cast("list[object]", value)
        yield key + _container_head(items), depth, f"{label}array of {len(items)}"
        for item in items:
            yield from _explain(item, b"", "", depth + 1)
    else:
        yield key + msgpack.packb(value), depth, label + _shown(value)


def _container_head(value: Sized) -> bytes:
    """The bytes that announce a map or an array: what its encoding has more than those of its entries."""
    packer = msgpack.Packer()
    return (
        packer.pack_map_header(len(value))
        if isinstance(value, dict)
        else packer.pack_array_header(len(value))
    )


def _shown(value: object) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def _lines(data: bytes, depth: int, note: str) -> Iterator[str]:
    indent = "  " * depth
    for start in range(0, len(data), BYTES_PER_LINE):
        text = f"  {indent}{data[start : start + BYTES_PER_LINE].hex(' ')}"
        yield f"{text:<{_WIDTH}}{note}".rstrip() if start == 0 else text
