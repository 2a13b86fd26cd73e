"""A client written from docs/protocol.md alone: nothing of Keyholt or msgpack, only the standard library.

Usage: ``foreign_client.py SOCKET``. It greets, writes, reads, pipelines, provokes errors, and prints what it
saw as one JSON object. It is the proof that the document is enough.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
from typing import Any


def encode(value: Any) -> bytes:
    """The header's encoding, the wide formats where the short ones would take more code."""
    if value is None or isinstance(value, bool):
        return {None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value]
    if isinstance(value, int):
        return struct.pack(">Bq", 0xD3, value)
    if isinstance(value, str):
        return struct.pack(">BI", 0xDB, len(value.encode())) + value.encode()
    if isinstance(value, list):
        return struct.pack(">BI", 0xDD, len(value)) + b"".join(map(encode, value))
    return struct.pack(">BI", 0xDF, len(value)) + b"".join(encode(k) + encode(v) for k, v in value.items())


def decode(data: bytes) -> Any:
    """The map that a header holds."""
    value, rest = _decode(data)
    if rest:
        raise ValueError("bytes after the map")
    return value


def _decode(data: bytes) -> tuple[Any, bytes]:
    tag, data = data[0], data[1:]
    if tag < 0x80 or tag >= 0xE0:
        return tag if tag < 0x80 else tag - 0x100, data
    if tag in (0xC0, 0xC2, 0xC3):
        return {0xC0: None, 0xC2: False, 0xC3: True}[tag], data
    if 0xCC <= tag <= 0xD3:
        size = 1 << (tag - 0xCC) % 4
        return int.from_bytes(data[:size], "big", signed=tag >= 0xD0), data[size:]
    if tag >= 0xD9:
        size = {0xD9: 1, 0xDA: 2, 0xDB: 4, 0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}[tag]
        count, data = int.from_bytes(data[:size], "big"), data[size:]
        kind = "text" if tag <= 0xDB else "array" if tag <= 0xDD else "map"
    else:
        count = tag & (0x1F if tag >= 0xA0 else 0x0F)
        kind = "text" if tag >= 0xA0 else "array" if tag >= 0x90 else "map"
    if kind == "text":
        return data[:count].decode(), data[count:]
    items = []
    for _ in range(count * (2 if kind == "map" else 1)):
        item, data = _decode(data)
        items.append(item)
    return (dict(zip(items[::2], items[1::2], strict=True)) if kind == "map" else items), data


class Client:
    def __init__(self, path: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(20)
        self.sock.connect(path)
        self.last_id = 0

    def send(self, op: str, args: Any, payload: bytes = b"") -> int:
        self.last_id += 1
        header = encode({"id": self.last_id, "op": op, "args": args})
        self.sock.sendall(struct.pack(">II", len(header), len(payload)) + header + payload)
        return self.last_id

    def receive(self) -> tuple[Any, bytes]:
        header_size, payload_size = struct.unpack(">II", self._exactly(8))
        return decode(self._exactly(header_size)), self._exactly(payload_size)

    def call(self, op: str, args: Any, payload: bytes = b"") -> tuple[Any, bytes]:
        number = self.send(op, args, payload)
        header, answer = self.receive()
        assert header["id"] == number
        return header.get("result", header.get("error")), answer

    def _exactly(self, size: int) -> bytes:
        parts = b""
        while len(parts) < size:
            piece = self.sock.recv(size - len(parts))
            if not piece:
                raise EOFError
            parts += piece
        return parts


def main(path: str) -> dict[str, Any]:
    """One conversation; gives what was seen in it."""
    client, seen = Client(path), dict[str, Any]()
    seen["hello"], _ = client.call("session.hello", {"version": 1, "client": "foreign 1"})
    seen["put"], _ = client.call(
        "secret.put", {"path": "f/ü", "labels": {"k": "v"}, "if_version": 0}, b"\x00\xffvalue"
    )
    seen["get"], value = client.call("secret.get", {"path": "f/ü"})
    seen["value"] = value.hex()
    big = bytes(range(256)) * 4096
    client.call("secret.put", {"path": "f/big"}, big)
    seen["big"] = client.call("secret.get", {"path": "f/big"})[1] == big
    client.call("secret.put", {"path": "f/empty"})
    seen["empty"] = client.call("secret.get", {"path": "f/empty"})[1].hex()
    numbers = {
        client.send("secret.get", {"path": f"f/{name}"}): name for name in ("big", "empty", "ü", "none") * 4
    }
    answers = {}
    for _ in numbers:
        header, payload = client.receive()
        answers[header["id"]] = [numbers[header["id"]], header["ok"], len(payload)]
    seen["pipelined"] = [answers[number] for number in numbers]
    seen["list"], _ = client.call("secret.list", {"prefix": "f/"})
    seen["missing"], _ = client.call("secret.get", {"path": "f/none"})
    seen["unknown_operation"], _ = client.call("secret.frobnicate", {})
    seen["unknown_field"], _ = client.call("secret.get", {"path": "f/ü", "verzion": 1})
    seen["wrong_type"], _ = client.call("secret.get", {"path": "f/ü", "version": True})
    seen["nil"], _ = client.call("secret.get", {"path": "f/ü", "version": None})
    seen["hello_again"], _ = client.call("session.hello", {"version": 1})
    client.last_id = -1
    client.send("secret.get", {"path": "f/ü"})
    seen["broken"], _ = client.receive()
    try:
        client.receive()
    except EOFError:
        seen["closed"] = True
    client.sock.close()
    return seen


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))
