"""A client written from docs/protocol.md alone: nothing of Keyholt or msgpack, only the standard library.

Usage: ``foreign_client.py SOCKET [rules | crowd]``. It greets, writes, reads, pipelines, provokes errors, and
prints what it saw as one JSON object. It is the proof that the document is enough. With ``rules`` it breaks
every rule of the document's table in the ways of ``PROVOCATIONS``, each on a connection of its own; with
``crowd`` the one of ``CROWD``.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
from typing import Any


def encode(value: Any) -> bytes:
    """The header's encoding, the wide formats where the short ones would take more code.

    ``bytes`` are encoded already: so can be written what no message may hold.
    """
    if isinstance(value, bytes):
        return value
    if isinstance(value, float):
        return struct.pack(">Bd", 0xCB, value)
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


def frame(header: bytes, payload: bytes = b"") -> bytes:
    """A frame of any header."""
    return struct.pack(">II", len(header), len(payload)) + header + payload


def request(op: Any, args: Any, payload: bytes = b"", *, number: Any = 7, **more: Any) -> bytes:
    """A request's frame, well formed or not."""
    return frame(encode({"id": number, "op": op, "args": args, **more}), payload)


class Client:
    def __init__(self, path: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(20)
        self.sock.connect(path)
        self.last_id = 0

    def send(self, op: str, args: Any, payload: bytes = b"") -> int:
        self.last_id += 1
        self.sock.sendall(request(op, args, payload, number=self.last_id))
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


GET, PUT = "secret.get", "secret.put"
FIVE = struct.pack(">I", 5)
"""The length of a passphrase, before the first of two."""
OTHERS: list[Any] = [True, "1", 1.5, None, [], {}]
"""Values that are no integer."""
TWICE = b"\x82" + (encode("path") + encode("a")) * 2
"""A map with one key twice."""

# By the words of a rule of the document, all the ways in which it is broken here.

FRAMES = {
    "H is 0": [struct.pack(">II", 0, 0)],
    "H is more than 8192": [struct.pack(">II", 8193, 0), struct.pack(">II", 2**32 - 1, 0)],
    "P is more than 16842752": [struct.pack(">II", 1, 16842753), struct.pack(">II", 1, 2**32 - 1)],
    "the header is no map": [frame(encode([7])), frame(encode(7)), frame(b"\xc1")],
    "no `id` can be read": [
        frame(encode({"op": GET, "args": {}})),
        frame(b"\x82" + encode("op") + b"\xc1" + encode("id") + encode(7)),
        frame(encode({"x": [0] * 16, "id": 7, "op": GET, "args": b"\xc1"})),
    ],
    "`id` is no integer from 1 to 9007199254740991": [
        request(GET, {"path": "a"}, number=number) for number in (0, -1, 2**53, 7.5, True, "7", None)
    ],
    "`id` is that of a request in flight": [request(PUT, {"path": "rules/a"}) + request(GET, {"path": "a"})],
    "`session.hello` comes again after one that was accepted": [request("session.hello", {"version": 1})],
}
"""Ways to break the rules of frames and ids."""

HEADERS = {
    "the header is cut short, or bytes follow its map": [
        frame(encode({"id": 7, "op": GET, "args": {}})[:-1]),
        frame(encode({"id": 7, "op": GET, "args": {"path": "a"}}) + b"\xc0"),
    ],
    "a map, at any depth, has a key twice": [
        frame(b"\x83" + encode("id") + encode(7) + (encode("op") + encode(GET)) * 2),
        request(GET, TWICE),
        request(PUT, {"path": "a", "labels": TWICE}),
    ],
    "a key is not text": [request(GET, b"\x81\x01\x01"), request(GET, b"\x81\xc4\x00\x01")],
    "a text is not valid UTF-8": [
        request(GET, {"path": text}) for text in (b"\xa1\xff", b"\xa2\xc0\x80", b"\xa3\xed\xa0\x80")
    ],
    "there is a byte string or an extension type": [
        request(GET, {"path": "a", "version": value})
        for value in (b"\xc4\x00", b"\xc4\x01\x01", b"\xd4\x05\x00", b"\xd6\xff" + bytes(4))
    ],
    "the header has more than 96 values": [
        request(GET, {"path": "a", "version": [0] * 86}),
        request(GET, {f"{number}": 0 for number in range(46)}),
        request(GET, b"\x81\xa1a\xdd\xff\xff\xff\xff"),
        request(GET, b"\xdf\x00\x00\x00\xff" + b"\xa1a\x01" * 40),
    ],
    "the header has more than 8 maps and arrays": [
        request(GET, {"path": "a", "version": [[]] * 6}),
        request(GET, b"\x81\xa1a" * 7 + b"\x80"),
    ],
    "the header has other keys than `id`, `op` and `args`": [
        request(GET, {"path": "a"}, more=1),
        frame(encode({"id": 7, "op": GET})),
        frame(encode({"id": 7, "args": {}})),
    ],
    "`op` is not text, or `args` is no map": [request(5, {}), request(GET, []), request(GET, None)],
}
"""Ways to break the rules of a header's encoding and keys."""

FIELDS = {
    "there is no such operation": [request("secret.frobnicate", {}), request("", {}, b"payload")],
    "a field is unknown, but in a greeting": [request(GET, {"path": "a", "verzion": 1})],
    "a field without a default is missing": [request(GET, {}), request("secret.destroy", {"path": "a"})],
    "a value has another type than its field; nil has that of none": [
        *(request(GET, {"path": "a", "version": value}) for value in OTHERS),
        request(GET, {"path": 1}),
        request("slot.add", {"name": "n", "replace": 1}, FIVE + b"first" + b"second"),
        request(PUT, {"path": "a", "labels": {"k": 1}}),
    ],
    "a number is outside its range": [
        request(GET, {"path": "a", "version": 0}),
        request(GET, {"path": "a", "version": 2**31}),
        request(PUT, {"path": "a", "if_version": -1}),
        request(PUT, {"path": "a", "expires": -1}),
        request(PUT, {"path": "a", "expires": 253402300800}),
        request("secret.list", {"limit": 0}),
    ],
    "`limit` is more than 200": [
        request("secret.list", {"limit": 201}),
        request("secret.history", {"path": "a", "limit": 201}),
    ],
}
"""Ways to break the rules of operations and their fields."""

NAMES = {
    "a name, a path, a prefix or a text is not of its form": [
        *(request(GET, {"path": path}) for path in ("", "/a", "a//b", "a/..", "a\n", "a ", "a?b")),
        request(GET, {"path": "\ufb01"}),
        request("secret.list", {"prefix": "/a"}),
        request("slot.remove", {"name": "A"}, b"x"),
        request(PUT, {"path": "a", "labels": {"": "v"}}),
        request(PUT, {"path": "a", "labels": {"k": "\x1b"}}),
    ],
    "a name, a path, a prefix or a text is too long": [
        request(GET, {"path": "x" * 513}),
        request("secret.list", {"prefix": "x" * 513}),
        request("slot.remove", {"name": "x" * 65}, b"x"),
        request(PUT, {"path": "a", "labels": {"k" * 65: "v"}}),
        request(PUT, {"path": "a", "labels": {"k": "v" * 257}}),
    ],
    "a path has too many segments, or a secret too many labels": [
        request(GET, {"path": "/".join("a" * 33)}),
        request(PUT, {"path": "a", "labels": {f"{number}": "" for number in range(17)}}),
    ],
}
"""Ways to break the rules of names, and of how long and how many they are."""

PAYLOADS = {
    "there is a payload, and the operation takes none": [request(GET, {"path": "a"}, b"x")],
    "the payload is over the operation's limit": [
        request("agent.unlock", {}, bytes(4097)),
        request(PUT, {"path": "a"}, bytes(2**24 + 1)),
    ],
    "a passphrase is empty, or the second one missing": [
        request("agent.unlock", {}),
        request("slot.add", {"name": "n"}, bytes(4) + b"second"),
        request("slot.add", {"name": "n"}, FIVE + b"first"),
        request("slot.add", {"name": "n"}, b"passphrase and passphrase"),
    ],
    "a passphrase is too long": [
        request("agent.unlock", {}, bytes(4097)),
        request("slot.add", {"name": "n"}, FIVE + b"first" + bytes(4097)),
    ],
}
"""Ways to break the rules of payloads."""

CROWD = {
    "more than 64 requests are in flight": [
        b"".join(request(PUT, {"path": f"rules/{number}"}, number=number) for number in (*range(8, 72), 7))
    ],
}
"""Each is sent while no write is answered: the agent's disk is slow."""

PROVOCATIONS = {**FRAMES, **HEADERS, **FIELDS, **NAMES, **PAYLOADS}
"""Each is sent after a greeting."""

FIRST_PROVOCATIONS = {
    "no `session.hello` was accepted, and it is another request": [
        request("agent.status", {}),
        request("session.hello", {"version": 2}, number=6) + request("agent.status", {}),
    ],
    "`session.hello` has a version that the agent does not speak": [
        request("session.hello", {"version": 2}),
        request("session.hello", {"version": 0, "client": 5, "rooms": [None]}),
        request("session.hello", {"version": 2}, era=2),
    ],
}
"""Each is sent on a connection that has not greeted."""


def broken(path: str, data: bytes, *, greeted: bool) -> list[Any]:
    """What comes of sending it: the id and the code of the error, and whether the connection ended."""
    client = Client(path)
    if greeted:
        client.call("session.hello", {"version": 1})
    codes = dict[int, str]()
    try:
        try:
            client.sock.sendall(data)
            if not greeted:
                client.last_id = 997
                client.send("session.hello", {"version": 1})
            client.last_id = 998
            client.send("agent.status", {})
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has ended; what it said before can be read all the same
        while not {7, 999} <= codes.keys():  # in any order
            header, _ = client.receive()
            codes[header["id"]] = "none" if header["ok"] else header["error"]["code"]
        return [7, codes[7], False]
    except (EOFError, ConnectionResetError):
        return [0, codes.get(0, "none"), True]
    finally:
        client.sock.close()


def break_rules(path: str, *, slow_disk: bool) -> dict[str, list[list[Any]]]:
    """By the words of the rule, what came of each way of breaking it."""
    greeting, first = (CROWD, {}) if slow_disk else (PROVOCATIONS, FIRST_PROVOCATIONS)
    return {
        rule: [broken(path, data, greeted=greeted) for data in frames]
        for greeted, ways in ((True, greeting), (False, first))
        for rule, frames in ways.items()
    }


if __name__ == "__main__":
    if sys.argv[2:]:
        print(json.dumps(break_rules(sys.argv[1], slow_disk=sys.argv[2] == "crowd")))
    else:
        print(json.dumps(main(sys.argv[1])))
