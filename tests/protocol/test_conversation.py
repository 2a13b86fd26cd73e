"""Both ends joined by pipes that deliver any number of bytes: each request gets its answer, once."""

from __future__ import annotations

from typing import Any, Final

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from keyholt_protocol.client_connection import ClientConnection
from keyholt_protocol.errors import LocalProtocolError, NotFoundError
from keyholt_protocol.events import PayloadReceived
from keyholt_protocol.server_connection import ServerConnection


class Conversation(RuleBasedStateMachine):
    """Two ends joined by two pipes that deliver any number of bytes at a time; replies in any order."""

    server_type: type[ServerConnection] = ServerConnection

    def __init__(self) -> None:
        super().__init__()
        self.client, self.server = ClientConnection(), self.server_type()
        self.to_server, self.to_client = bytearray(), bytearray()
        self.asked: dict[int, tuple[str, int]] = {}  # what was sent and has had no answer yet
        self.arrived: list[int] = []  # whole at the server, not yet answered
        self.answers: dict[int, tuple[bool, bytes]] = {}  # sent by the server, not yet seen by the client
        self.targets: dict[Any, tuple[Any, bytearray]] = {}
        self.seen = 0

    @staticmethod
    def payload(number: int, size: int, salt: int) -> bytes:
        return bytes((number * 7 + place + salt) % 251 for place in range(size))

    @initialize()
    def greet(self) -> None:
        self.ask(0, "session.hello")
        self.deliver_to_server(10**6)
        self.answer(0, 0, False)

    @precondition(lambda self: len(self.asked) < 20)
    @rule(size=st.sampled_from([0, 0, 1, 40, 3000]))
    def ask(self, size: int, op: str = "x.y") -> None:
        number, head = self.client.send_request(op, {"n": len(self.asked)}, size)
        assert number not in self.asked
        self.asked[number] = op, size
        self.to_server += head + self.payload(number, size, 1)

    @precondition(lambda self: self.to_server)
    @rule(size=st.integers(1, 400) | st.just(10**6))
    def deliver_to_server(self, size: int) -> None:
        for event, payload in self.deliver(self.server, self.to_server, size):
            op, expected = self.asked[event.id]
            assert (event.op, payload) == (op, self.payload(event.id, expected, 1))
            self.arrived.append(event.id)

    @precondition(lambda self: self.arrived)
    @rule(which=st.integers(0, 100), size=st.sampled_from([0, 0, 1, 40, 3000]), error=st.booleans())
    def answer(self, which: int, size: int, error: bool) -> None:
        number = self.arrived.pop(which % len(self.arrived))
        if error:
            self.to_client += self.server.send_error(number, NotFoundError(f"no {number}"))
            self.answers[number] = True, b""
        else:
            payload = self.payload(number, size, 2)
            self.to_client += self.server.send_result(number, {"n": number}, size) + payload
            self.answers[number] = False, payload

    @precondition(lambda self: self.to_client)
    @rule(size=st.integers(1, 400) | st.just(10**6))
    def deliver_to_client(self, size: int) -> None:
        for event, payload in self.deliver(self.client, self.to_client, size):
            failed, expected = self.answers.pop(event.id)
            del self.asked[event.id]
            assert (str(event.error) if failed else event.result) == (
                f"no {event.id}" if failed else {"n": event.id}
            )
            assert payload == expected
            self.seen += 1

    def deliver(self, end: Any, pipe: bytearray, size: int) -> list[tuple[Any, bytes]]:
        """Move bytes to one end as an adapter would, in place where it can; gives headers and payloads."""
        whole = list[tuple[Any, bytes]]()
        room = end.payload_room()
        if room is not None:
            size = min(size, len(room), len(pipe))
            room[:size] = pipe[:size]
            end.payload_received(size)
        else:
            size = min(size, len(pipe))
            end.receive_data(memoryview(bytes(pipe[:size])))
        del pipe[:size]
        while (event := end.next_event()) is not None:
            if isinstance(event, PayloadReceived):
                header, target = self.targets.pop(end)
                assert header.id == event.id
                whole.append((header, bytes(target)))
            elif event.payload_size:
                self.targets[end] = event, bytearray(event.payload_size)
                end.accept_payload(memoryview(self.targets[end][1]))
            else:
                whole.append((event, b""))
        return whole

    @invariant()
    def counts_agree(self) -> None:
        assert self.client.in_flight >= len(self.asked) - (self.client in self.targets)
        assert self.server.in_flight == len(self.arrived) + (self.server in self.targets)
        assert self.server.mid_frame or not self.targets.get(self.server)

    def teardown(self) -> None:
        while self.to_server or self.arrived or self.to_client:
            if self.to_server:
                self.deliver_to_server(10**6)
            if self.arrived:
                self.answer(0, 1, False)
            if self.to_client:
                self.deliver_to_client(10**6)
        assert not self.asked
        assert not self.answers
        assert self.client.in_flight == self.server.in_flight == 0
        assert not self.client.mid_frame
        assert not self.server.mid_frame


MACHINE: Final = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_conversation_delivers_everything_once() -> None:
    """Pipelined, with payloads both ways, overtaken and cut anywhere, each request gets its answer, once."""
    run_state_machine_as_test(Conversation, settings=MACHINE)


def test_conversation_finds_a_planted_bug() -> None:
    """A server that mixes up the payloads' ids, only when two requests overlap, is found out."""

    class Confused(ServerConnection):
        def send_result(self, request_id: int, result: Any, payload_size: int = 0) -> bytes:
            if self.in_flight > 1:
                other = next(iter(self._open))
                return super().send_result(other, result, payload_size)
            return super().send_result(request_id, result, payload_size)

    class Planted(Conversation):
        server_type = Confused

    unshrunk = settings(MACHINE, phases=[Phase.generate])
    with pytest.raises((AssertionError, KeyError, LocalProtocolError)):
        run_state_machine_as_test(Planted, settings=unshrunk)
