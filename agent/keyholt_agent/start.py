"""The very start of ``keyholt-agent``: hardens the process, and only then imports the rest of it.

The imports take longer than all else at a start, and until ``PR_SET_DUMPABLE`` is 0 every process of the same
user may open the agent's memory, and keep it open. So nothing is imported here that is not needed for that.
The installed program (``agent/bin/keyholt-agent``) starts Python isolated (-I), and without ``site`` (-S).
"""

from __future__ import annotations

import gc
import sys
from contextlib import suppress
from typing import NoReturn

from keyholt_agent.hardening import HardeningError, harden

__all__ = ["main", "program"]


def program() -> NoReturn:
    """Run the agent as the process that it is; ends it."""
    sys.exit(main())


def main() -> int:
    """Harden, then run the agent; gives the exit status, see ``keyholt_agent.main``."""
    if not sys.flags.isolated:
        remedy = "it is started as `keyholt-agent`, or with `python -I -m keyholt_agent`"
        print(f"keyholt-agent: {remedy}: without -I others say what runs", file=sys.stderr)
        return 2
    with suppress(OSError), open("/proc/self/comm", "w", encoding="ascii") as name:
        name.write("keyholt-agent")  # by which ps, top and pgrep know it; else it would be the interpreter's
    try:
        harden()
    except HardeningError as error:
        print(f"keyholt-agent: {error}", file=sys.stderr)
        return 1
    # All that is loaded stays, and none of it is garbage: looking for some costs a start a tenth of its time.
    gc.disable()
    if sys.flags.no_site:
        import site

        site.main()  # packages may lie where only that looks
    try:
        from keyholt_agent.main import main as run
    except ModuleNotFoundError as error:
        remedy = "install Keyholt with its extra 'agent', as in its README"
        print(f"keyholt-agent: the package {error.name!r} is missing; {remedy}", file=sys.stderr)
        return 1
    gc.freeze()
    gc.enable()
    return run()
