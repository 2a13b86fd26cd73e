"""The commands about keyslots: slot list, add, remove, change."""

from __future__ import annotations

from argparse import Namespace
from typing import Final

from keyholt.cli.command import PASSPHRASE_WAY, WEAK, Command, Parameter, passphrase_parameters
from keyholt.cli.connection import connected
from keyholt.cli.offering import unlocked
from keyholt.cli.output import moment, say, show, table
from keyholt.cli.passphrase import explained, obtain, wiped
from keyholt.cli.readiness import require_free_name, require_keyslot, require_unlocked
from keyholt_protocol import operations as ops

__all__ = ["COMMANDS"]


def list_slots(options: Namespace) -> int:
    """The command ``slot list``."""
    with connected(options) as agent:
        slots = agent.slots.list()
    if options.json:
        show(slots)
    elif slots:
        say(*table([(slot.name, slot.kind, moment(slot.created), slot.kdf) for slot in slots]))
    return 0


def add(options: Namespace) -> int:
    """The command ``slot add``."""
    with unlocked(options) as agent:
        require_unlocked(agent)
        require_free_name(agent, options.name)
        with (
            wiped(obtain(options, "A passphrase that opens a keyslot")) as existing,
            wiped(obtain(options, "New passphrase", prefix="new_", new=True)) as new,
            explained(existing),
        ):
            result = agent.slots.add(options.name, existing=existing, new=new)
    if options.json:
        show(result)
    else:
        say(f"added the keyslot {result.name!r} ({result.kdf})")
    return 0


def change(options: Namespace) -> int:
    """The command ``slot change``."""
    with unlocked(options) as agent:
        require_unlocked(agent)
        require_keyslot(agent, options.name)
        with (
            wiped(obtain(options, "Present passphrase")) as existing,
            wiped(obtain(options, "New passphrase", prefix="new_", new=True)) as new,
            explained(existing),
        ):
            result = agent.slots.change(options.name, existing=existing, new=new)
    if options.json:
        show(result)
    else:
        say(f"changed the passphrase of the keyslot {result.name!r} ({result.kdf})")
    return 0


def remove(options: Namespace) -> int:
    """The command ``slot remove``."""
    prompt = "A passphrase that opens a keyslot that stays"
    with unlocked(options) as agent:
        require_unlocked(agent)
        require_keyslot(agent, options.name)
        with wiped(obtain(options, prompt)) as passphrase, explained(passphrase):
            result = agent.slots.remove(options.name, passphrase=passphrase)
    if options.json:
        show(result)
    else:
        say(f"removed the keyslot {result.name!r}")
    return 0


_SLOT_NAME: Final = Parameter(names=("NAME",), help="the keyslot's name")

COMMANDS: Final = (
    Command(
        words=("slot", "list"),
        help=ops.SLOT_LIST.summary,
        run=list_slots,
        json="an array of objects: name, kind, created, kdf",
    ),
    Command(
        words=("slot", "add"),
        help="Adds a keyslot with a passphrase of its own.",
        run=add,
        json="an object: name, kdf",
        parameters=(
            Parameter(names=("KIND",), help="passphrase: the only kind so far", choices=("passphrase",)),
            Parameter(names=("--name",), help="the new keyslot's name", metavar="NAME", required=True),
            *passphrase_parameters("a passphrase that opens a keyslot"),
            *passphrase_parameters("the new passphrase", "new-"),
            WEAK,
        ),
        secret=PASSPHRASE_WAY,
    ),
    Command(
        words=("slot", "remove"),
        help=ops.SLOT_REMOVE.summary,
        run=remove,
        json="an object: name",
        parameters=(_SLOT_NAME, *passphrase_parameters("a passphrase that opens a keyslot that stays")),
        secret=PASSPHRASE_WAY,
    ),
    Command(
        words=("slot", "change"),
        help="Changes the passphrase of a keyslot.",
        run=change,
        json="an object: name, kdf",
        parameters=(
            _SLOT_NAME,
            *passphrase_parameters("its present passphrase"),
            *passphrase_parameters("the new passphrase", "new-"),
            WEAK,
        ),
        secret=PASSPHRASE_WAY,
    ),
)
