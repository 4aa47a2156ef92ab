"""The local stack: real servers on loopback, without containers."""
