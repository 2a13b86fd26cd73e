"""Who a peer is, as the kernel says; everything past the transport knows a peer by this alone."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PeerIdentity"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerIdentity:
    """``pid`` is for logs only: it may name another process by the time that it is read."""

    pid: int
    uid: int
    gid: int
