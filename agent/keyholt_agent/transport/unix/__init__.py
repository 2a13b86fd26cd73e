"""What is Unix only of the transport: sockets with a path, and credentials that the kernel vouches for."""
