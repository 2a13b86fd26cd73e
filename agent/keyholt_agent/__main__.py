"""``python -m keyholt_agent`` is ``keyholt-agent``."""

from __future__ import annotations

import sys

from keyholt_agent.start import main

sys.exit(main())
