"""``make bench``: measures the agent, prints a chart, and writes docs/benchmarks.md.

    bench/run.py [--quick] [--only NAME]...

Run it with the interpreter of an environment in which keyholt is installed as users get it; `make bench`
makes one.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main() -> int:
    """Run what was asked for; gives the exit status: 0 measured, 1 could not measure, 2 usage."""
    # The modules of the benchmark are imported from the root, here and in the processes that it starts.
    sys.path[0] = str(Path(__file__).parent.parent)
    from bench.suite import SCENARIOS, run_suite

    # A terminal without "µ" is no reason to fail at the end.
    if reconfigure := getattr(sys.stdout, "reconfigure", None):
        reconfigure(errors="replace")

    parser = argparse.ArgumentParser(prog="bench/run.py", description="Measures the agent.")
    parser.add_argument("--quick", action="store_true", help="measure shortly, with a tenth of the secrets")
    parser.add_argument("--only", action="append", default=[], choices=sorted(SCENARIOS), metavar="NAME",
                        help=f"one scenario, may be given again: {', '.join(SCENARIOS)}")  # fmt: skip
    options = parser.parse_args()
    return run_suite(options.only, quick=options.quick)


if __name__ == "__main__":
    sys.exit(main())
