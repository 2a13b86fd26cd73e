"""docs/protocol.md: it is what the code says, and enough to write a client from."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from keyholt_protocol import limits
from keyholt_protocol import messages as m
from keyholt_protocol.codec import from_map, to_map
from keyholt_protocol.errors import (
    ERRORS,
    InvalidRequestError,
    KeyholtError,
    NotFoundError,
    RemoteProtocolError,
    UnsupportedError,
)
from keyholt_protocol.limits import MAX_IN_FLIGHT, MAX_VALUE
from keyholt_protocol.operations import OPERATIONS, Operation
from keyholt_protocol.server_connection import ServerConnection
from tests.protocol.wire import decode_frames, decode_model
from tests.support.generated_page import check_current, check_drift_is_told
from tools import protocol_examples, protocol_reference
from tools.protocol_reference import reference

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
CLIENT = Path(__file__).with_name("foreign_client.py")
TEXT = (ROOT / "docs/protocol.md").read_text("utf-8")


def test_reference_is_what_the_code_says() -> None:
    """The document in the tree is the one that would be written now; the tool, run alone, says so too."""
    assert reference(protocol_reference.TEMPLATE.read_text("utf-8")) == TEXT
    check_current(protocol_reference)


def test_drift_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A document that differs, or is missing, is told in a sentence; writing it settles the matter."""
    check_drift_is_told(
        protocol_reference,
        TEXT,
        TEXT.replace("secret.get", "secret.fetch", 1),
        into=tmp_path,
        monkeypatch=monkeypatch,
        capsys=capsys,
    )


def test_change_of_the_registry_is_drift(monkeypatch: pytest.MonkeyPatch) -> None:
    """An operation, an error or a limit that changes makes the document out of date."""
    template = protocol_reference.TEMPLATE.read_text("utf-8")
    with monkeypatch.context() as patch:
        patch.setitem(
            OPERATIONS, "secret.get", dataclasses.replace(OPERATIONS["secret.get"], summary="Gives.")
        )
        assert reference(template) != TEXT
    with monkeypatch.context() as patch:
        patch.setattr(NotFoundError, "meaning", "Nothing.")
        assert reference(template) != TEXT
    with monkeypatch.context() as patch:
        patch.setattr(limits, "MAX_PATH", 511)
        assert reference(template) != TEXT
    assert reference(template) == TEXT


def test_unknown_placeholder_is_an_error() -> None:
    """The prose cannot name a limit that there is not."""
    with pytest.raises(KeyError):
        reference("at most {MAX_CHEESE} bytes")


def test_everything_is_in_the_document() -> None:
    """Every operation, field, error and limit is named."""
    for operation in OPERATIONS.values():
        section = TEXT.split(f"### `{operation.name}`\n")[1].split("\n### ")[0]
        for cls in (operation.request, operation.result):
            assert all(f"| `{field.name}` |" in section for field in dataclasses.fields(cls))
        assert all(code.wire_name in section for code in operation.errors)
    assert all(re.search(rf"\| {int(cls.code)} \| `{name}` \|", TEXT) for name, cls in ERRORS.items())
    assert "agent_unreachable" not in TEXT
    for anchor in re.findall(r"\]\(#([a-z-]+)\)", TEXT):
        heads = [
            head.strip("`").lower().replace(" ", "-").replace("'", "")
            for head in re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)
        ]
        assert anchor in {re.sub(r"[^a-z-]", "", head) for head in heads}


@pytest.mark.parametrize("name", OPERATIONS)
def test_example_is_two_frames_that_a_plain_reader_understands(name: str) -> None:
    """The bytes printed for an operation, taken from the page, are its request and its result."""
    section = TEXT.split(f"### `{name}`\n")[1].split("```")[1]
    printed = re.findall(r"^ {2,}((?:[0-9a-f]{2} ?)+?)(?: {2,}.*)?$", section, re.MULTILINE)
    frames, broken = decode_frames([bytes.fromhex("".join(printed))])
    assert not broken
    (request, payload), (answer, result_payload) = frames
    example = protocol_examples.EXAMPLES[name]
    assert decode_model(request)["op"] == name
    assert decode_model(request)["args"] == to_map(example.request)
    assert decode_model(answer)["result"] == to_map(example.result)
    assert (payload, result_payload) == (example.payload, example.result_payload)
    assert len(payload) <= OPERATIONS[name].max_payload
    assert not result_payload or OPERATIONS[name].result_payload


def test_example_that_does_not_survive_is_found() -> None:
    """An example of the wrong message stops the reference from being written."""
    wrong = dataclasses.replace(protocol_examples.EXAMPLES["secret.get"], request=m.AgentLockRequest())
    with pytest.raises(InvalidRequestError):
        protocol_examples.annotated(OPERATIONS["secret.get"], wrong)


def test_foreign_client_imports_nothing_of_ours() -> None:
    """The client that proves the document uses the standard library and nothing else."""
    tree = ast.parse(CLIENT.read_text("utf-8"))
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported <= {"__future__", "json", "socket", "struct", "sys", "typing"}


def test_client_written_from_the_document_alone(tmp_path: Path) -> None:
    """It greets, writes, reads, pipelines, and gets the errors that the document promises."""
    with little_agent(tmp_path / "agent.sock") as path:
        run = subprocess.run(
            [sys.executable, "-I", CLIENT, path], check=True, timeout=60, stdout=subprocess.PIPE, text=True
        )
    seen = json.loads(run.stdout)
    assert seen["hello"]["version"] == 1
    assert seen["put"]["version"] == 1
    assert seen["get"] == {"version": 1, "created": 1, "labels": {"k": "v"}}
    assert (seen["value"], seen["big"], seen["empty"]) == ("00ff76616c7565", True, "")
    assert (
        seen["pipelined"]
        == [["big", True, 2**20], ["empty", True, 0], ["ü", True, 7], ["none", False, 0]] * 4
    )
    assert [one["path"] for one in seen["list"]["secrets"]] == ["f/big", "f/empty", "f/ü"]
    assert (seen["missing"]["code"], seen["missing"]["retryable"]) == ("not_found", False)
    assert seen["unknown_operation"]["code"] == "unsupported"
    assert seen["unknown_field"]["code"] == seen["wrong_type"]["code"] == "invalid_request"
    assert seen["nil"]["code"] == seen["hello_again"]["code"] == "invalid_request"
    assert (seen["broken"]["id"], seen["broken"]["error"]["code"]) == (0, "invalid_request")
    assert seen["closed"] is True


@contextmanager
def little_agent(path: Path) -> Iterator[str]:
    """The real protocol on a real socket for one client, a dict for a store; answers a batch backwards."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen()
    listener.settimeout(20)
    thread = threading.Thread(target=_serve_one, args=(listener,))
    thread.start()
    try:
        yield str(path)
    finally:
        thread.join()
        listener.close()


def _serve_one(listener: socket.socket) -> None:
    sock, _ = listener.accept()
    server, store = ServerConnection(), dict[str, tuple[m.SecretPutRequest, bytes]]()
    with sock:
        sock.settimeout(20)
        while data := sock.recv(65536):
            try:
                answers = _answers(server, store, data)
            except RemoteProtocolError as error:
                sock.sendall(server.send_error(0, error.answer))
                return
            sock.sendall(b"".join(reversed(answers)))


_pending: dict[ServerConnection, tuple[Any, bytearray]] = {}


def _answers(
    server: ServerConnection, store: dict[str, tuple[m.SecretPutRequest, bytes]], data: bytes
) -> list[bytes]:
    answers = list[bytes]()
    server.receive_data(memoryview(data))
    while (event := server.next_event()) is not None:
        size = getattr(event, "payload_size", 0)
        if size:
            _pending[server] = event, bytearray(size)
            server.accept_payload(memoryview(_pending[server][1]))
            continue
        request, payload = _pending.pop(server, (event, bytearray()))
        try:
            result, body = _carry_out(OPERATIONS.get(request.op), request, bytes(payload), store)
            answers.append(server.send_result(request.id, to_map(result), len(body)) + body)
        except KeyholtError as error:
            answers.append(server.send_error(request.id, error))
    return answers


def _carry_out(
    operation: Operation[Any, Any] | None,
    event: Any,
    payload: bytes,
    store: dict[str, tuple[m.SecretPutRequest, bytes]],
) -> tuple[Any, bytes]:
    if event.defect is not None:
        raise event.defect
    if operation is None:
        raise UnsupportedError
    request = from_map(operation.request, event.args)
    if isinstance(request, m.SessionHelloRequest):
        return m.SessionHelloResult(
            version=1, agent="t", max_value=MAX_VALUE, max_in_flight=MAX_IN_FLIGHT
        ), b""
    if isinstance(request, m.SecretPutRequest):
        store[request.path] = request, payload
        return m.SecretPutResult(version=1, created=1), b""
    if isinstance(request, m.SecretGetRequest):
        if request.path not in store:
            raise NotFoundError
        written, value = store[request.path]
        return m.SecretGetResult(version=1, created=1, labels=written.labels or {}), value
    assert isinstance(request, m.SecretListRequest)
    return m.SecretListResult(
        secrets=tuple(m.SecretInfo(path=path, version=1, created=1) for path in sorted(store))
    ), b""
