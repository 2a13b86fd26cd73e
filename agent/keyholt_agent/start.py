"""The very start of ``keyholt-agent``: hardens the process, and only then imports the rest of it.

The imports take longer than all else at a start, and until ``PR_SET_DUMPABLE`` is 0 every process of the same
user may open the agent's memory, and keep it open. So nothing is imported here that is not needed for that.
"""

from __future__ import annotations

import gc
import sys

from keyholt_agent.hardening import HardeningError, harden

__all__ = ["main"]


def main() -> int:
    """Harden, then run the agent; gives the exit status, see ``keyholt_agent.main``."""
    try:
        harden()
    except HardeningError as error:
        print(f"keyholt-agent: {error}", file=sys.stderr)
        return 1
    # All that is loaded stays, and none of it is garbage: looking for some costs a start a tenth of its time.
    gc.disable()
    try:
        from keyholt_agent.main import main as run
    except ModuleNotFoundError as error:
        remedy = "install Keyholt with its extra 'agent', as in its README"
        print(f"keyholt-agent: the package {error.name!r} is missing; {remedy}", file=sys.stderr)
        return 1
    gc.freeze()
    gc.enable()
    return run()
