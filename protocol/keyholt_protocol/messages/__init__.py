"""Requests and results by domain, one frozen dataclass each; the wire's field names are theirs.

- ``domain.verb`` has ``DomainVerbRequest`` and ``DomainVerbResult``, in the module ``domain``; what only they
  hold begins with the domain too.
- No field ever holds a secret: values, passphrases and keys travel in a frame's payload.
- A message that exists is well formed: names are checked as it is made, on both sides.
- Times are whole seconds since 1970-01-01 UTC. Sizes are bytes.
- Field types are ``str``, ``int``, ``bool``, ``X | None``, ``Mapping[str, str]``, ``tuple[X, ...]`` and
  messages.
- Where ``ignores_unknown`` is true, fields that are not the message's are passed over; elsewhere refused.
"""

from __future__ import annotations

from keyholt_protocol.messages import agent, secret, session, slot, store
from keyholt_protocol.messages.agent import *  # noqa: F403 - each domain says itself what is public of it
from keyholt_protocol.messages.secret import *  # noqa: F403 - likewise
from keyholt_protocol.messages.session import *  # noqa: F403 - likewise
from keyholt_protocol.messages.slot import *  # noqa: F403 - likewise
from keyholt_protocol.messages.store import *  # noqa: F403 - likewise

__all__: list[str] = []
__all__ += agent.__all__
__all__ += secret.__all__
__all__ += session.__all__
__all__ += slot.__all__
__all__ += store.__all__
