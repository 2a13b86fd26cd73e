"""The commands about the agent as a whole: init, unlock, lock, status."""

from __future__ import annotations

import os
from argparse import Namespace
from typing import TYPE_CHECKING, Final

from keyholt.cli.colour import painted, wants_colour
from keyholt.cli.command import PASSPHRASE_WAY, WEAK, Command, Parameter, passphrase_parameters
from keyholt.cli.connection import connected
from keyholt.cli.descriptors import STDOUT, write_all
from keyholt.cli.offering import unlocked
from keyholt.cli.output import say, show, table
from keyholt.cli.overview import attention, headline
from keyholt.cli.passphrase import explained, obtain, wiped
from keyholt.cli.progress import watched
from keyholt.cli.quantities import readable_size, readable_time
from keyholt.cli.readiness import require_keyslot, require_no_store
from keyholt_protocol import operations as ops
from keyholt_protocol.messages import AgentStatusResult, AgentUnlockResult

if TYPE_CHECKING:
    from keyholt.blocking import Client

__all__ = ["COMMANDS", "open_store"]


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
    result = open_store(options)
    if options.json:
        show(result)
    else:
        say(f"unlocked with the keyslot {result.slot!r}")
    return 0


def open_store(options: Namespace) -> AgentUnlockResult:
    """Unlock with the passphrase that the options point to, or that is typed; prints nothing."""
    with connected(options) as agent:
        require_keyslot(agent, options.slot)
        with (
            wiped(obtain(options)) as passphrase,
            explained(passphrase),
            connected(options) as beside,
            watched(lambda: _check(beside), "checking the store"),
        ):
            return agent.unlock(passphrase=passphrase, slot=options.slot)


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
    with unlocked(options) as agent:
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
        coloured = wants_colour(os.environ, terminal=os.isatty(STDOUT))
        told = [headline(result), *attention(result), *((line, None) for line in _details(result))]
        lines = [painted(line, colour if coloured else None) for line, colour in told]
        write_all(STDOUT, "".join(f"{line}\n" for line in lines).encode())
    return 0


def _details(status: AgentStatusResult) -> list[str]:
    used, size = readable_size(status.memory_used), readable_size(status.memory_size)
    return table(
        [
            ("agent", f"{status.version}, protocol {status.protocol}, pid {status.pid}"),
            ("running for", readable_time(status.uptime)),
            ("connections", status.connections),
            ("store", status.store_path),
            ("locked memory", f"{status.memory_backend}, {used} of {size} in use"),
            ("cache", f"{readable_size(status.cache_used)} of {readable_size(status.cache_limit)}"),
            ("core dumps", "possible" if status.core_dumps else "off"),
        ]
    )


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
