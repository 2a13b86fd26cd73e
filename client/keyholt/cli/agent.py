"""The commands about the agent as a whole: init, unlock, lock, status."""

from __future__ import annotations

import math
from argparse import Namespace
from typing import TYPE_CHECKING, Final

from keyholt.cli.command import PASSPHRASE_WAY, WEAK, Command, Parameter, passphrase_parameters
from keyholt.cli.connection import connected
from keyholt.cli.output import say, show, table
from keyholt.cli.passphrase import explained, obtain, wiped
from keyholt.cli.progress import watched
from keyholt.cli.readiness import require_keyslot, require_no_store
from keyholt_protocol import operations as ops
from keyholt_protocol.messages import AgentStatusResult

if TYPE_CHECKING:
    from keyholt.blocking import Client

__all__ = ["COMMANDS", "readable_size", "readable_time"]

_UNITS: Final = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))

_LOCKED: Final = {
    "never_unlocked": ", never unlocked since it was started",
    "request": ", by request",
    "idle": ", for it was not used",
    "lifetime": ", at the end of its lifetime",
    "store_failure": ", for the store failed",
}
"""Why, in words, by what the agent says."""


def init(options: Namespace) -> int:
    """The command ``init``."""
    with connected(options) as agent:
        require_no_store(agent)
        with wiped(obtain(options, "New passphrase", new=True)) as passphrase:
            result = agent.init(passphrase=passphrase, slot=options.slot or "passphrase")
    if options.json:
        show(result)
    else:
        say(f"created the store {result.store_id} with the keyslot {result.slot!r} ({result.kdf})")
    return 0


def unlock(options: Namespace) -> int:
    """The command ``unlock``."""
    with connected(options) as agent:
        require_keyslot(agent, options.slot)
        with (
            wiped(obtain(options)) as passphrase,
            explained(passphrase),
            connected(options) as beside,
            watched(lambda: _check(beside), "checking the store"),
        ):
            result = agent.unlock(passphrase=passphrase, slot=options.slot)
    if options.json:
        show(result)
    else:
        say(f"unlocked with the keyslot {result.slot!r}")
    return 0


def lock(options: Namespace) -> int:
    """The command ``lock``."""
    with connected(options) as agent:
        agent.lock()
    if options.json:
        show({})
    else:
        say("locked")
    return 0


def _check(agent: Client) -> tuple[int, int] | None:
    """How far the check of the store is, which an unlock begins with."""
    status = agent.status()
    return None if status.checking_rows is None else (status.checked_rows or 0, status.checking_rows)


def rekey(options: Namespace) -> int:
    """The command ``rekey``."""
    with connected(options) as agent:
        result = agent.rekey()
    if options.json:
        show(result)
    else:
        say(f"made version {result.root_version} of the root key; {result.to_rewrap} data keys to rewrap")
    return 0


def status(options: Namespace) -> int:
    """The command ``status``."""
    with connected(options) as agent:
        result = agent.status()
    if options.json:
        show(result)
    else:
        say(*_describe(result))
    return 0


def _describe(status: AgentStatusResult) -> list[str]:
    used, size = readable_size(status.memory_used), readable_size(status.memory_size)
    rows = [
        ("state", status.state + _LOCKED.get(status.locked_because or "", "")),
        ("agent", f"{status.version}, protocol {status.protocol}, pid {status.pid}"),
        ("running for", readable_time(status.uptime)),
        ("connections", status.connections),
        ("store", status.store_path),
        ("locked memory", f"{status.memory_backend}, {used} of {size} in use"),
        ("cache", f"{readable_size(status.cache_used)} of {readable_size(status.cache_limit)}"),
        ("core dumps", "possible" if status.core_dumps else "off"),
    ]
    if status.store_secrets is not None:
        rows.insert(5, ("secrets", status.store_secrets))
    if status.checking_rows:
        done = 100 * (status.checked_rows or 0) // status.checking_rows
        rows.insert(1, ("checking the store", f"{done} %"))
    if status.to_rewrap is not None:
        rows.insert(1, ("data keys to rewrap", status.to_rewrap))
    if status.lifetime_lock_in is not None:
        rows.insert(1, ("locks itself in", readable_time(status.lifetime_lock_in)))
    if status.idle_lock_in is not None and status.idle_lock_in < (status.lifetime_lock_in or math.inf):
        rows.insert(1, ("if not used, in", readable_time(status.idle_lock_in)))
    if status.problem is not None:
        rows.insert(1, ("problem", status.problem))
    return table(rows)


def readable_size(size: int) -> str:
    """Bytes for people, in binary units."""
    amount = float(size)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":  # noqa: PLR2004  # the step of the units
            break
        amount /= 1024
    if size == 1:
        return "1 byte"
    return f"{amount:.0f} {unit}" if amount == int(amount) else f"{amount:.1f} {unit}"


def readable_time(seconds: int) -> str:
    """A length of time for people: its two largest units."""
    parts: list[str] = []
    for unit, length in _UNITS:
        count, seconds = divmod(seconds, length)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


COMMANDS: Final = (
    Command(
        words=("init",),
        help=ops.STORE_INIT.summary,
        run=init,
        json="an object: store_id, slot, kdf",
        parameters=(
            Parameter(names=("--slot",), help="the keyslot's name (default: passphrase)", metavar="NAME"),
            *passphrase_parameters(),
            WEAK,
        ),
        secret=PASSPHRASE_WAY,
    ),
    Command(
        words=("unlock",),
        help=ops.AGENT_UNLOCK.summary,
        run=unlock,
        json="an object: slot, the keyslot that opened",
        parameters=(
            Parameter(names=("--slot",), help="the keyslot to try (default: each)", metavar="NAME"),
            *passphrase_parameters(),
        ),
        secret=PASSPHRASE_WAY,
    ),
    Command(
        words=("rekey",),
        help=ops.STORE_REKEY.summary,
        run=rekey,
        json="an object: root_version, to_rewrap",
    ),
    Command(words=("lock",), help=ops.AGENT_LOCK.summary, run=lock, json="an empty object"),
    Command(
        words=("status",),
        help=ops.AGENT_STATUS.summary,
        run=status,
        json="an object: the fields of `agent.status` (docs/protocol.md), null where there is nothing to say",
    ),
)
