"""The commands about keyslots: slot list, add, remove, change."""

from __future__ import annotations

from argparse import Namespace

from keyholt.cli.connection import connected
from keyholt.cli.output import moment, say, show, table
from keyholt.cli.passphrase import obtain, wiped

__all__ = ["add", "change", "list_slots", "remove"]


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
    with (
        connected(options) as agent,
        wiped(obtain(options, "A passphrase that opens a keyslot")) as existing,
        wiped(obtain(options, "New passphrase", prefix="new_", twice=True)) as new,
    ):
        result = agent.slots.add(options.name, existing=existing, new=new)
    if options.json:
        show(result)
    else:
        say(f"added the keyslot {result.name!r} ({result.kdf})")
    return 0


def change(options: Namespace) -> int:
    """The command ``slot change``."""
    with (
        connected(options) as agent,
        wiped(obtain(options, "Present passphrase")) as existing,
        wiped(obtain(options, "New passphrase", prefix="new_", twice=True)) as new,
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
    with connected(options) as agent, wiped(obtain(options, prompt)) as passphrase:
        result = agent.slots.remove(options.name, passphrase=passphrase)
    if options.json:
        show(result)
    else:
        say(f"removed the keyslot {result.name!r}")
    return 0
