"""Clients that have nothing to ask: ``python -m bench.idlers SOCKET COUNT`` greets on so many connections,
says so on stdout, and holds them open until its stdin ends.
"""

from __future__ import annotations

import socket
import sys

from bench.jobs import STALL
from bench.lasting import greet


def main() -> None:
    """Hold the connections."""
    connections: list[socket.socket] = []
    for _ in range(int(sys.argv[2])):
        sock = socket.socket(socket.AF_UNIX)
        connections.append(sock)
        sock.settimeout(STALL)
        sock.connect(sys.argv[1])
        greet(sock)
    print("ready", flush=True)
    sys.stdin.read()
    for sock in connections:
        sock.close()


if __name__ == "__main__":
    main()
