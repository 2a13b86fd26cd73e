"""The benchmark's load generators hold every answer against what it must be: what they count was right."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bench.exchanges import GREETING, echo_of, frame_size, value_of
from bench.jobs import Job, Kind, LoadError, Measured

from bench import lasting, visits

GREETED = echo_of(90, 1).request
RIGHT = echo_of(150).request[: -len(value_of(0))] + value_of(0)
WRONG = {
    "another value": RIGHT[:-1] + b"?",
    "more than it announces": RIGHT + b"!",
    "a refusal": RIGHT.replace(b"\xa2ok\xc3", b"\xa2ok\xc2"),
    "the answer to another request": RIGHT.replace(b"\xa2id\x02", b"\xa2id\x03"),
    "nothing": b"",
}


@contextmanager
def _server(path: Path, answer: bytes) -> Iterator[str]:
    """Answers the greeting on every connection, and ``answer`` to whatever follows; none: it closes."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        thread = threading.Thread(target=_serve, args=(listening, answer))
        thread.start()
        try:
            yield str(path)
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def _serve(listening: socket.socket, answer: bytes) -> None:
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:  # the test is over
            return
        with connection:
            while request := connection.recv(65536):
                reply = GREETED if request == GREETING.request else answer
                if not reply:
                    break
                connection.sendall(reply)


def _perform(place: str, kind: Kind) -> Measured:
    generators: dict[Kind, Callable[[Job], Measured]] = {"get": lasting.perform, "visit": visits.perform}
    return generators[kind](Job(place=place, kind=kind, seconds=0.02))


@pytest.mark.parametrize("kind", ["get", "visit"])
def test_right_answers_are_counted(tmp_path: Path, kind: Kind) -> None:
    """Right answers are counted, and how long they are is known, which the echo server is sent then."""
    with _server(tmp_path / "s", RIGHT) as place:
        measured = _perform(place, kind)
    assert measured.total >= measured.answers > 0
    assert (measured.answer_size, measured.greeting_size) == (len(RIGHT), len(GREETED))


@pytest.mark.parametrize("kind", ["get", "visit"])
@pytest.mark.parametrize("answer", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_answer_ends_the_job(tmp_path: Path, kind: Kind, answer: bytes) -> None:
    """Whatever is not the answer ends the job with an error, and is not counted."""
    with _server(tmp_path / "s", answer) as place, pytest.raises(LoadError):
        _perform(place, kind)


@pytest.mark.parametrize("size", [60, 95, 300])
def test_an_echo_is_as_long_as_an_answer(size: int) -> None:
    """What the echo server is sent is one whole frame of the size asked for, and its own answer."""
    echo = echo_of(size)
    assert len(echo.request) == frame_size(echo.request) == size
    assert echo.answered_by(echo.request)
    assert not echo.answered_by(echo.request[:-1] + b"?")
