"""The vault: what is open, and what may be done in which state. The one room that knows both keys and store.

- ``vault`` holds the state and the keys; ``state`` its tables.
- ``unlocking`` makes the store and unlocks it, ``keyslots`` changes who may; ``passphrases`` is how they get
  at a keyslot's key, ``throttle`` and ``autolock`` say when.
- ``secrets`` reads and writes secrets; ``permits`` keeps wraps at hand for it, ``metadata`` is what is stored
  beside a value.
- ``stored_keys`` makes rows of keys, and keys of rows.

It knows no requests and no peers but by their principal: that is the handlers' business.
"""

from __future__ import annotations
