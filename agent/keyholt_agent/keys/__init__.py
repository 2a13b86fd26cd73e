"""Keys and what they seal: envelope, hierarchy, keyslots, and when to unlock or lock.

Nothing in this package does I/O or reads a clock by itself; time, randomness and storage are arguments,
and every key stays in the arena. ``keyring.Keyring`` is the front; the other modules are its parts.
"""

from __future__ import annotations
