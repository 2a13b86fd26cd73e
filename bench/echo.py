"""The yardstick: a bare trio echo server over ``SocketStream``, ``python -m bench.echo SOCKET [CORE]``.

It does what a trio program does that does nothing: accept, receive, send the same bytes, again, and close
when the peer has closed. No frames, no limits, no checks.
"""

from __future__ import annotations

import os
import socket
import sys

import trio

__all__ = ["serve"]

RECEIVE_SIZE = 64 * 1024


async def _echo(stream: trio.SocketStream) -> None:
    async with stream:
        while data := await stream.receive_some(RECEIVE_SIZE):
            await stream.send_all(data)


async def serve(path: str) -> None:
    """Serve until cancelled."""
    listening = trio.socket.socket(socket.AF_UNIX)
    await listening.bind(path)
    listening.listen(1024)
    await trio.serve_listeners(_echo, [trio.SocketListener(listening)])


if __name__ == "__main__":
    if len(sys.argv) > 2:
        os.sched_setaffinity(0, {int(sys.argv[2])})
    try:
        trio.run(serve, sys.argv[1])
    except KeyboardInterrupt:
        sys.exit(130)
