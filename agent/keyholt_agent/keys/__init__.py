"""Keys and what they seal: the envelope, keys that wrap, the root, keyslots, master keys, secrets.

- Every key stays in the arena, or in what holds it otherwise; it is used by ``wrap`` and ``unwrap``.
- Nothing in this package does I/O, knows a store or reads a clock: time, storage and randomness are arguments
  (``tests/agent/test_layers.py`` holds it to that). The kernel's randomness is in ``randomness`` alone.

``keyring.Keyring`` is the front: the keys of one unlocked store.
"""

from __future__ import annotations
