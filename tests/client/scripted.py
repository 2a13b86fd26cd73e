"""An agent that does what a test's script says, over a real socket, and speaks the protocol by its own
library.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path

from keyholt_protocol.codec import to_map
from keyholt_protocol.errors import KeyholtError
from keyholt_protocol.events import RequestReceived
from keyholt_protocol.messages import SecretGetResult, SessionHelloResult
from keyholt_protocol.server_connection import ServerConnection

__all__ = [
    "GOT",
    "GREETING",
    "PATIENCE",
    "VALUE",
    "Peer",
    "Script",
    "ScriptedAgent",
    "greet_and_go",
    "serve_one",
    "take_one_and_go",
]

GREETING = SessionHelloResult(version=1, agent="scripted", max_value=2**24, max_in_flight=64)
GOT = SecretGetResult(version=2, created=5)
VALUE = b"canary-51b0"
"""What ``serve_one`` answers."""

PATIENCE = 20.0
"""Seconds after which a script that waits for its client fails: it hangs, or the machine does."""


class Peer:
    """The agent's end of one connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._connection = ServerConnection()

    def request(self) -> tuple[RequestReceived, bytes]:
        """The next request with its payload; ``EOFError`` when the client has gone."""
        event = self._event()
        assert isinstance(event, RequestReceived)
        payload = bytearray(event.payload_size)
        if event.payload_size:
            self._connection.accept_payload(memoryview(payload))
            self._event()
        return event, bytes(payload)

    def greet(self) -> None:
        """Answer the greeting."""
        hello, _ = self.request()
        assert hello.op == "session.hello"
        self.answer(hello, GREETING)

    def answer(
        self, request: RequestReceived, result: object, payload: bytes = b"", *, split: bool = False
    ) -> None:
        """Answer a request; with ``split`` a byte at a time."""
        self.send(
            self._connection.send_result(request.id, to_map(result), len(payload)) + payload, split=split
        )

    def fail(self, request: RequestReceived | None, error: KeyholtError) -> None:
        """Answer a request with an error, or the connection if there is none."""
        self.send(self._connection.send_error(0 if request is None else request.id, error))

    def send(self, data: bytes, *, split: bool = False) -> None:
        """Send bytes as they are."""
        for piece in [data[i : i + 1] for i in range(len(data))] if split else [data]:
            self.sock.sendall(piece)

    def _event(self) -> object:
        while (event := self._connection.next_event()) is None:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError
            self._connection.receive_data(memoryview(data))
        return event


def serve_one(peer: Peer) -> None:
    """Answer the greeting and one get."""
    peer.greet()
    request, _ = peer.request()
    peer.answer(request, GOT, VALUE)


def take_one_and_go(peer: Peer) -> None:
    """Take a request and close without an answer."""
    peer.greet()
    peer.request()


def greet_and_go(peer: Peer) -> None:
    """Answer the greeting and close."""
    peer.greet()


Script = Callable[[Peer], None]


class ScriptedAgent:
    """Listens at ``path``; the connections that come are played the scripts, in order, one thread for all."""

    def __init__(self, path: Path, *scripts: Script) -> None:
        self.address = str(path)
        self.connections = 0
        self._scripts = scripts
        self._closing = False
        self._failure: BaseException | None = None
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.settimeout(PATIENCE)
        self._listener.bind(self.address)
        self._listener.listen()
        self._thread = threading.Thread(target=self._play, name="scripted agent")

    def _play(self) -> None:
        try:
            for script in self._scripts:
                sock, _ = self._listener.accept()
                with sock:
                    if self._closing:
                        return
                    self.connections += 1
                    sock.settimeout(PATIENCE)
                    try:
                        script(Peer(sock))
                    except (EOFError, ConnectionError):
                        pass
        except BaseException as error:
            self._failure = error

    def __enter__(self) -> ScriptedAgent:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        with socket.socket(socket.AF_UNIX) as last:  # scripts that were not asked for are not waited for
            last.connect(self.address)
        self._thread.join()
        self._listener.close()
        if self._failure is not None:
            raise self._failure
