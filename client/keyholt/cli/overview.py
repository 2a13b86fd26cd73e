"""What `keyholt status` tells a person: first what is open and until when, then what needs attention."""

from __future__ import annotations

from typing import Final

from keyholt.cli.colour import Colour
from keyholt.cli.output import counted
from keyholt.cli.quantities import readable_size, readable_time
from keyholt_protocol.messages import AgentStatusResult

__all__ = ["attention", "headline"]

FULL: Final = 0.9
"""How much of the locked memory is in use when it is time to say so."""

_LOCKED: Final = {
    "never_unlocked": ", never unlocked since it was started",
    "request": ", by request",
    "idle": ", for it was not used",
    "lifetime": ", at the end of its lifetime",
    "store_failure": ", for the store failed",
}
"""Why, in words, by what the agent says."""


def headline(status: AgentStatusResult) -> tuple[str, Colour]:
    """The state in a sentence."""
    if status.state == "uninitialised":
        return "there is no store yet; make one with `keyholt init`", Colour.WAITING
    secrets = "" if status.store_secrets is None else f", {counted(status.store_secrets, 'secret')}"
    if status.state != "unlocked":
        because = _LOCKED.get(status.locked_because or "", "")
        return f"locked{because}{secrets}; open it with `keyholt unlock`", Colour.WAITING
    return f"unlocked{secrets}{_until(status)}", Colour.GOOD


def _until(status: AgentStatusResult) -> str:
    idle, lifetime = status.idle_lock_in, status.lifetime_lock_in
    if idle is not None and (lifetime is None or idle < lifetime):
        later = "" if lifetime is None else f", and in {readable_time(lifetime)} in any case"
        return f"; locks itself in {readable_time(idle)} if not used{later}"
    return "" if lifetime is None else f"; locks itself in {readable_time(lifetime)}"


def attention(status: AgentStatusResult) -> list[tuple[str, Colour]]:
    """What somebody should do something about, or wait for."""
    found: list[tuple[str, Colour]] = []
    if status.problem is not None:
        found.append((f"problem: {status.problem}", Colour.BAD))
    if status.core_dumps:
        found.append(("core dumps of the agent are possible; see `keyholt doctor`", Colour.BAD))
    if status.memory_used > FULL * status.memory_size:
        used, size = readable_size(status.memory_used), readable_size(status.memory_size)
        found.append((f"locked memory is nearly full, {used} of {size}; see `memory.size`", Colour.BAD))
    if status.checking_rows:
        done = 100 * (status.checked_rows or 0) // status.checking_rows
        found.append((f"the store is being checked: {done} %", Colour.WAITING))
    if status.to_rewrap:
        left = counted(status.to_rewrap, "data key")
        found.append((f"{left} to rewrap, in the background", Colour.WAITING))
    return found
