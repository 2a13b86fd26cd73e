"""The command ``doctor``: every check, a line each, whether the agent runs or not."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from keyholt.address import choose
from keyholt.cli.command import Command
from keyholt.cli.connection import connected
from keyholt.cli.output import say, show
from keyholt.cli.version import client_version
from keyholt_protocol.errors import KeyholtError

if TYPE_CHECKING:
    from keyholt.cli.checks import Finding

__all__ = ["COMMANDS"]

_MARKS: Final = {"ok": "ok   ", "note": "note ", "wrong": "WRONG"}


def doctor(options: Namespace) -> int:
    """The command ``doctor``."""
    findings = list(_examine(options))
    well = all(finding.state != "wrong" for finding in findings)
    if options.json:
        show({"ok": well, "findings": findings})
    else:
        for finding in findings:
            say(f"{_MARKS[finding.state]}  {finding.subject}: {finding.text}")
            if finding.remedy is not None:
                say(f"       -> {finding.remedy}")
    return 0 if well else 1


def _examine(options: Namespace) -> Iterator[Finding]:
    # Imported here: what they ask the machine with is loaded by no other command.
    from keyholt.cli import checks

    address = choose(options.address)
    server = checks.find_server(address) if address.kind in {"unix", "fd"} else None
    if address.kind == "unix":
        yield from checks.check_socket(address.path)
    if server is not None:
        if address.kind == "unix":
            yield from checks.check_way(address.path, server)
        yield from checks.check_server(server)
    try:
        with connected(options) as agent:
            greeting, status = agent.greeting, agent.status()
    except KeyholtError as error:
        text, _, remedy = str(error).partition("; ")
        yield checks.Finding(
            state="wrong", subject="agent", text=text, remedy=remedy or "see the agent's log"
        )
    else:
        yield checks.Finding(state="ok", subject="agent", text=f"pid {status.pid} answers")
        yield from checks.check_protocol(greeting, client_version())
        yield from checks.check_agent_memory(status)
        yield from checks.check_store(status)
        yield from checks.check_directory(status.store_path)
    yield from checks.check_lock_limit()
    yield from checks.check_memfd_secret()


COMMANDS: Final = (
    Command(
        words=("doctor",),
        help="Says, line by line, what is well and what to do about what is not.",
        run=doctor,
        json="an object: ok, findings (an array of objects: state (ok, note or wrong), subject, text, remedy "
        "(null where there is none)), with status 1 if anything is wrong",
    ),
)
