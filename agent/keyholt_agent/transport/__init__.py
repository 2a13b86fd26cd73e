"""Connections: who listens, who is at the other end, and the session that reads and answers."""
