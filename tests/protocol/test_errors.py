"""Errors: codes, numbers, classes and the wire agree."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest

from keyholt_protocol import errors
from keyholt_protocol.errors import (
    ERRORS,
    AgentUnreachableError,
    AgentUntrustedError,
    ErrorCode,
    InternalError,
    KeyholtError,
    LockedError,
    error_from_wire,
)

# Given once and never again: a client in another language may have these numbers and names built in.
NUMBERS = {
    "invalid_request": 1, "unsupported": 2, "uninitialised": 3, "locked": 4, "unlock_failed": 5, "denied": 6,
    "not_found": 7, "already_exists": 8, "conflict": 9, "contention": 10, "too_large": 11,
    "resource_exhausted": 12, "busy": 13, "rate_limited": 14, "deadline_exceeded": 15,
    "token_unavailable": 16, "store_unavailable": 17, "audit_unavailable": 18, "integrity": 19,
    "internal": 20,
}  # fmt: skip


CLIENTS_OWN = (AgentUnreachableError, AgentUntrustedError)


def test_numbers_and_names_stay() -> None:
    """Codes that have been given keep their numbers."""
    assert {name: int(cls.code) for name, cls in ERRORS.items()} == NUMBERS


def test_a_code_is_shown_by_its_name() -> None:
    """However it is printed; it is still the number that it is, and survives a pickle."""
    code = LockedError.code
    assert f"{code}" == str(code) == repr(code) == "locked"
    assert f"{code:>8}" == "  locked"
    assert (int(code), {code: 1}[code], pickle.loads(pickle.dumps(code)) is code) == (4, 1, True)


def test_every_class_has_a_code_of_its_own() -> None:
    """Every error class of the module is on the wire under its own code, but the client's own."""
    classes = {cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, KeyholtError)}
    assert classes - {KeyholtError} == {*ERRORS.values(), *CLIENTS_OWN}
    assert len({cls.code for cls in classes - {KeyholtError}}) == len(classes) - 1
    assert {cls.code for cls in classes} == set(ErrorCode)


def test_the_clients_own_are_never_on_the_wire() -> None:
    """The client's own codes cannot be mistaken for ones that the agent sent."""
    for cls in CLIENTS_OWN:
        assert cls.code.wire_name not in ERRORS
        assert cls.code >= 100
    assert AgentUnreachableError.retryable
    assert not AgentUntrustedError.retryable


@pytest.mark.parametrize("cls", [*ERRORS.values(), *CLIENTS_OWN])
def test_error_says_what_to_do(cls: type[KeyholtError]) -> None:
    """Every error has one sentence of meaning, which is its message where none is given: without its capital
    and full stop, as messages are.
    """
    assert cls.meaning.endswith(".")
    assert str(cls()) == cls.meaning[0].lower() + cls.meaning[1:-1]
    assert str(cls("the words")) == "the words"
    assert type(cls.retryable) is bool
    assert cls.__name__ == "".join(word.title() for word in cls.code.wire_name.split("_")) + "Error"


@pytest.mark.parametrize("cls", ERRORS.values())
def test_error_survives_the_wire(cls: type[KeyholtError]) -> None:
    """From its name on the wire comes the same class, with message and details."""
    error = error_from_wire(cls.code.wire_name, "the words", {"limit": 7})
    assert (type(error), str(error), error.details, error.retryable) == (
        cls,
        "the words",
        {"limit": 7},
        cls.retryable,
    )


def test_unknown_code_is_internal_and_keeps_what_the_agent_says() -> None:
    """A newer agent's code is not understood, but whether a retry helps is."""
    for retryable in (True, False):
        error = error_from_wire("out_of_cheese", "redo from start", retryable=retryable)
        assert (type(error), error.retryable) == (InternalError, retryable)
    assert not InternalError.retryable


def test_agent_s_word_on_a_retry_stays_with_its_error() -> None:
    """One error that may be retried does not change the others of its class."""
    assert error_from_wire("locked", "", retryable=True).retryable
    assert not LockedError().retryable


def test_error_survives_a_copy_and_a_pickle() -> None:
    """What a caller is given in another task or process says the same."""
    error = error_from_wire("busy", "the words", {"limit": 7}, retryable=False)
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert (str(twin), twin.details, twin.retryable) == ("the words", {"limit": 7}, False)


@pytest.mark.parametrize("cls", [*ERRORS.values(), *CLIENTS_OWN])
def test_a_second_try_is_promised_where_it_may_help(cls: type[KeyholtError]) -> None:
    """A meaning that says to try again is one of a code that may be retried."""
    assert ("try again" in cls.meaning) <= cls.retryable
