"""The demonstration's application: reads its configuration from the environment, as many do.

It prints no value, only what is needed to compare: a digest of all of them together.
"""

from __future__ import annotations

import hashlib
import os
import sys


def main() -> int:
    """Print how many variables there are and the digest of them all."""
    names = sorted(name for name in os.environ if name.startswith("SHOP_"))
    digest = hashlib.sha256()
    for name in names:
        digest.update(f"{name}\0{os.environ[name]}\0".encode())
    print(f"{len(names)} variables, digest {digest.hexdigest()}")
    return 0 if names else 1


if __name__ == "__main__":
    sys.exit(main())
