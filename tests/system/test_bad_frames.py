"""What a peer can send to a real agent: each breach has a named error, and costs nobody but that peer."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Any, Final

import msgpack
import pytest

from tests.support.hostile import attack
from tests.support.unharmed import ARENA, KEPT, KEPT_PATH, check_serves, unharmed
from tests.support.wire import HELLO_ARGS, WireClient, frame, request_frame, two_passphrases

if TYPE_CHECKING:
    from tests.support.agent_process import AgentProcess

GET: Final[dict[str, object]] = {"path": KEPT_PATH}
ADD: Final[dict[str, object]] = {"name": "n"}
EMPTY: Final = {"id": 7, "op": "x", "args": {}}
MILLION: Final = b"\x83\xa2id\x07\xa2op\xa1x\xa4args\xdd\x00\x0f\x42\x40"
SEVENTEEN: Final = {str(number): "" for number in range(17)}
DUPLICATE: Final = b"\x84\xa2id\x07\xa2op\xaaagent.lock\xa2op\xacagent.status\xa4args\x80"
DUPLICATE_ARGS: Final = b"\x83\xa2id\x07\xa2op\xaasecret.get\xa4args\x82\xa4path\xa1a\xa4path\xa1b"
EXTENSION: Final = b"\x83\xa2id\x07\xa2op\xacagent.status\xa4args\xc7\x01\x05\x00"


def packed(value: Any) -> bytes:
    """A header of any content."""
    data: bytes = msgpack.packb(value)
    return data


def nested(depth: int) -> bytes:
    """A request whose arguments lie that deep."""
    return b"\x83\xa2id\x07\xa2op\xaasecret.get\xa4args" + b"\x81\xa1a" * depth + b"\xc0"


# Each ends the connection, after one error that names the breach.
BREACHES: Final = {
    "header of no bytes": (struct.pack(">II", 0, 0), "invalid_request"),
    "header one byte too long": (struct.pack(">II", 8193, 0), "too_large"),
    "header of 4 GiB": (struct.pack(">II", 2**32 - 1, 0), "too_large"),
    "payload one byte too long": (struct.pack(">II", 10, 16 * 2**20 + 65537), "too_large"),
    "both of 4 GiB": (b"\xff" * 8, "too_large"),
    "text of another protocol": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "too_large"),
    "header that is no msgpack": (frame(b"\xc1" * 40), "invalid_request"),
    "header that is random": (frame(b"\xc1" + os.urandom(4000)), "invalid_request"),
    "header that is no map": (frame(packed([1, 2, 3])), "invalid_request"),
    "no id": (frame(packed({"op": "agent.status", "args": {}})), "invalid_request"),
    "id behind what is no msgpack": (frame(b"\x83\xa2op\xc1\xa2id\x07\xa4args\x80"), "invalid_request"),
    "id 0": (request_frame(0, "agent.status", {}), "invalid_request"),
    "negative id": (request_frame(-1, "agent.status", {}), "invalid_request"),
    "id beyond 2**53": (request_frame(2**53, "agent.status", {}), "invalid_request"),
    "id that is a fraction": (request_frame(7.5, "agent.status", {}), "invalid_request"),
    "id that is true": (request_frame(True, "agent.status", {}), "invalid_request"),
    "id that is text": (request_frame("7", "agent.status", {}), "invalid_request"),
    "id that is nil": (request_frame(None, "agent.status", {}), "invalid_request"),
}  # fmt: skip

# Each is refused by its id, 7, and the connection goes on.
DEFECTS: Final = {
    "header with bytes after it": (frame(packed(EMPTY) + b"\0"), "invalid_request"),
    "header cut short": (frame(packed({"id": 7, "op": "agent.status", "args": {}})[:-1]), "invalid_request"),
    "key twice": (frame(DUPLICATE), "invalid_request"),
    "key twice in the arguments": (frame(DUPLICATE_ARGS), "invalid_request"),
    "key that is no text": (frame(packed({"id": 7, "op": "x", 1: {}})), "invalid_request"),
    "extension type": (frame(EXTENSION), "invalid_request"),
    "extension type before the id": (frame(b"\x84\xa1x\xc7\x01\x05\x00" + EXTENSION[1:]), "invalid_request"),
    "binary": (frame(packed({"id": 7, "op": b"agent.status", "args": {}})), "invalid_request"),
    "invalid UTF-8": (frame(b"\x83\xa2id\x07\xa2op\xa2\xff\xfe\xa4args\x80"), "invalid_request"),
    "nested deeply": (frame(nested(2000)), "too_large"),
    "array of a million": (frame(MILLION), "too_large"),
    "map of 1,000": (request_frame(7, "x", {str(n): 0 for n in range(1000)}), "too_large"),
    "field too many": (frame(packed({"id": 7, "op": "x", "args": {}, "more": 1})), "invalid_request"),
    "field missing": (frame(packed({"id": 7, "op": "agent.status"})), "invalid_request"),
    "op that is a number": (request_frame(7, 7, {}), "invalid_request"),
    "arguments that are an array": (request_frame(7, "agent.status", []), "invalid_request"),
    "arguments that are nil": (request_frame(7, "agent.status", None), "invalid_request"),
    "payload with it": (request_frame(7, 7, {}, b"x" * 300_000), "invalid_request"),
    "hello again": (request_frame(7, "session.hello", HELLO_ARGS), "invalid_request"),
}  # fmt: skip

# Each is refused, and the connection goes on.
REFUSALS: Final[dict[str, tuple[str, dict[str, object], bytes, str]]] = {
    "unknown operation": ("secret.steal", {}, b"", "unsupported"),
    "empty operation": ("", {}, b"", "unsupported"),
    "operation of 8,000 characters": ("x" * 8000, {}, b"", "unsupported"),
    "operation with a payload that nobody takes": ("secret.steal", {}, b"x" * 300_000, "unsupported"),
    "unknown field": ("secret.get", {**GET, "verison": 1}, b"", "invalid_request"),
    "field missing": ("secret.get", {}, b"", "invalid_request"),
    "number for text": ("secret.get", {"path": 5}, b"", "invalid_request"),
    "text for a number": ("secret.get", {**GET, "version": "1"}, b"", "invalid_request"),
    "true for a number": ("secret.get", {**GET, "version": True}, b"", "invalid_request"),
    "fraction for a number": ("secret.get", {**GET, "version": 1.5}, b"", "invalid_request"),
    "nil for a number": ("secret.get", {**GET, "version": None}, b"", "invalid_request"),
    "version 0": ("secret.get", {**GET, "version": 0}, b"", "invalid_request"),
    "version beyond all": ("secret.get", {**GET, "version": 2**40}, b"", "invalid_request"),
    "labels that are an array": ("secret.put", {"path": "x", "labels": ["a"]}, b"v", "invalid_request"),
    "label that is a number": ("secret.put", {"path": "x", "labels": {"a": 1}}, b"v", "invalid_request"),
    "seventeen labels": ("secret.put", {"path": "x", "labels": SEVENTEEN}, b"", "too_large"),
    "expiry before all time": ("secret.put", {"path": "x", "expires": -1}, b"v", "invalid_request"),
    "negative version to build on": ("secret.put", {"path": "x", "if_version": -1}, b"v", "invalid_request"),
    "payload to one that takes none": ("agent.status", {}, b"x" * 300_000, "invalid_request"),
    "payload to a fetch": ("secret.get", GET, b"x", "invalid_request"),
    "passphrase one byte too long": ("agent.unlock", {}, b"x" * 4097, "too_large"),
    "passphrase of 16 MiB": ("agent.unlock", {}, b"x" * 16 * 2**20, "too_large"),
    "empty passphrase": ("agent.unlock", {}, b"", "invalid_request"),
    "new passphrase empty": ("slot.add", ADD, two_passphrases(b"abc", b""), "invalid_request"),
    "passphrases without a length": ("slot.add", ADD, b"abcdef", "invalid_request"),
    "slot of an unknown kind": (
        "slot.add", {**ADD, "kind": "x"}, two_passphrases(b"abc", b"d"), "invalid_request",
    ),
    "page of no entries": ("secret.list", {"limit": 0}, b"", "invalid_request"),
    "page too large": ("secret.list", {"limit": 201}, b"", "too_large"),
    "value one byte too long": ("secret.put", {"path": "x"}, b"x" * (16 * 2**20 + 1), "too_large"),
    "store that is there already": ("store.init", {}, b"another passphrase", "already_exists"),
}  # fmt: skip

LONG: Final = {"1,000 characters": "a" * 1000, "33 segments": "/".join("a" * 33)}
NAMES: Final = {
    "nothing": "", "slash": "/", "parent": "a/../b", "parent alone": "..", "itself": "a/./b", "leading": "/a",
    "trailing": "a/", "double": "a//b", "newline": "a\nb", "nul": "a\0b", "escape": "a\x1b[2Jb",
    "delete": "a\x7fb",
    "ligature": "o\ufb03ce", "full width": "\uff41dmin", "decomposed": "cafe\u0301", "Kelvin": "\u212a",
    "zero width": "a\u200bb",
    "right to left": "a\u202eb", "byte order mark": "\ufeffa", "no-break space": "a\u00a0b",
    "space at the end": "a ",
    "question mark": "a?version=1", "fragment": "a#b", "private use": "a\ue000", "unassigned": "a\U000e0fff",
}  # fmt: skip


@pytest.mark.parametrize("breach", BREACHES)
def test_breach_ends_its_own_connection(shared: AgentProcess, breach: str) -> None:
    """The peer is told the breach by name, then the connection is closed; another goes on meanwhile."""
    data, code = BREACHES[breach]
    with unharmed(shared), shared.connect() as other, shared.connect() as client:
        client.send(data)
        (reply,) = client.farewell()
        assert (reply.id, reply.code) == (0, code)
        assert other.get(KEPT_PATH) == KEPT


@pytest.mark.parametrize("defect", DEFECTS)
def test_defect_ends_the_request_alone(shared: AgentProcess, defect: str) -> None:
    """Whatever is wrong with a header whose id can be read is told by that id; the next request is served."""
    data, code = DEFECTS[defect]
    with unharmed(shared), shared.connect() as client:
        client.send(data)
        reply = client.receive()
        assert (reply.id, reply.code) == (7, code)
        assert client.get(KEPT_PATH) == KEPT


def test_numbers_written_as_floats(shared: AgentProcess) -> None:
    """Ids, versions and times beyond 32 bits may be written as JavaScript writes them."""
    with unharmed(shared, same_files=False), shared.connect() as client:
        client.send(request_frame(2.0**53 - 2, "secret.put", {"path": "float", "expires": 2.0**33}, b"v"))
        reply = client.receive().expect()
        assert (reply.id, reply.result["version"]) == (2**53 - 2, 1)
        assert client.call("secret.get", path="float", version=1.0).expect().result["expires"] == 2**33


def test_breach_before_hello(shared: AgentProcess) -> None:
    """Whoever does not begin with hello, or with a hello of another time, gets no further."""
    with unharmed(shared):
        with shared.connect(greet=False) as client:
            client.request("agent.status", {})
            (reply,) = client.farewell()
            assert (reply.id, reply.code) == (0, "invalid_request")
        with shared.connect(greet=False) as client:
            other = client.call("session.hello", version=2, client=7, rooms=[None])
            assert (other.code, other.details) == ("unsupported", {"versions": [1]})
            assert client.call("session.hello", version=1, client="\x1b[2J").code == "invalid_request"
            client.call("session.hello", **HELLO_ARGS).expect()
            assert client.get(KEPT_PATH) == KEPT


@pytest.mark.parametrize("refusal", REFUSALS)
def test_refusal_leaves_the_connection(shared: AgentProcess, refusal: str) -> None:
    """A request that cannot be served is answered by name, its payload passed over, the next one served."""
    op, args, payload, code = REFUSALS[refusal]
    with unharmed(shared), shared.connect() as client:
        assert client.call(op, payload, **args).code == code
        assert client.get(KEPT_PATH) == KEPT


@pytest.mark.parametrize("name", [*NAMES, *LONG])
def test_name_that_means_two_things(shared: AgentProcess, name: str) -> None:
    """Every operation that takes a path refuses it, and says so by name."""
    path, code = {**NAMES, **LONG}[name], "too_large" if name in LONG else "invalid_request"
    with unharmed(shared), shared.connect() as client:
        assert client.call("secret.put", b"v", path=path).code == code
        for op in ("secret.get", "secret.history", "secret.delete", "secret.undelete"):
            refused = client.call(op, path=path)
            assert (refused.code, refused.details["field"]) == (code, "path")
        assert client.call("secret.destroy", path=path, version=1).code == code


def test_id_in_use_is_a_breach(shared: AgentProcess) -> None:
    """Two requests of one id in flight: nobody could tell whose the answer is."""
    with unharmed(shared), shared.connect() as client:
        twice = request_frame(9, "agent.status", {})
        client.send(twice + twice)
        replies = client.farewell()
        assert [reply.code for reply in replies if reply.id == 0] == ["invalid_request"]


def test_frame_cut_off_by_the_end(shared: AgentProcess) -> None:
    """A peer that leaves in the middle of anything leaves nothing behind."""
    whole = request_frame(1, "session.hello", HELLO_ARGS) + request_frame(
        2, "secret.put", {"path": "cut"}, b"v" * 50
    )
    with unharmed(shared):
        for size in range(len(whole)):
            with shared.connect(greet=False) as client:
                client.send(whole[:size])


def test_announced_and_never_sent(shared: AgentProcess) -> None:
    """16 MiB announced and a disconnect: the locked memory for it is back at once."""
    with unharmed(shared, growth=ARENA):
        before = int(check_serves(shared)["memory_used"])
        for sent in (0, 1, 100_000):
            with shared.connect() as client:
                client.send(
                    request_frame(5, "secret.put", {"path": "cut"}, b"x" * sent, announced=16 * 2**20)
                )
                assert check_serves(shared)["memory_used"] < before + 17 * 2**20


def test_locked_memory_that_is_not_there(shared: AgentProcess) -> None:
    """The third payload of 16 MiB finds no room: it is refused and passed over, and the agent serves on."""
    with unharmed(shared, growth=ARENA), shared.connect() as first, shared.connect() as second:
        first.send(request_frame(5, "secret.put", {"path": "cut"}, announced=16 * 2**20))
        assert second.call("secret.put", bytes(16 * 2**20), path="big").code == "resource_exhausted"
        assert second.get(KEPT_PATH) == KEPT


def test_requests_beyond_the_limit_of_a_connection(shared: AgentProcess) -> None:
    """However many come at once, each is answered, or refused by name; which, ``test_rules`` looks at."""
    with unharmed(shared), shared.connect() as client:
        count = 200
        ids = [client.request("secret.history", {"path": KEPT_PATH}) for _ in range(count)]
        replies = {reply.id: reply for reply in (client.receive() for _ in range(count))}
        assert replies.keys() == set(ids)
        assert {reply.code for reply in replies.values()} <= {"", "busy"}
        assert client.get(KEPT_PATH) == KEPT


def test_byte_by_byte(shared: AgentProcess) -> None:
    """Frames that arrive a byte at a time mean the same as whole ones."""
    requests: list[tuple[str, dict[str, object], bytes]] = [
        ("session.hello", {**HELLO_ARGS}, b""),
        ("secret.put", {"path": "slow"}, b"bytes"),
        ("secret.get", {"path": "slow"}, b""),
    ]
    with unharmed(shared, same_files=False), WireClient(shared.socket_path, greet=False) as client:
        for number, (op, args, payload) in enumerate(requests):
            for byte in request_frame(number + 1, op, args, payload):
                client.send(bytes([byte]))
            assert client.receive().expect().payload == (b"bytes" if number == 2 else b"")


@pytest.mark.parametrize("seed", [1, 2])
def test_hostile_frames(shared: AgentProcess, seed: int) -> None:
    """A few thousand frames changed at random (a million in ``tests/torture``): each answered or cut off."""
    with unharmed(shared, same_files=False):
        assert attack(shared, 2_000, seed) > 1_000
