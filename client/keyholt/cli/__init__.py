"""The command line of Keyholt. ``entry`` decides whether a command takes the fast path or the full one."""
