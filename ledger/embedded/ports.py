"""Free ports of the loopback interface."""

from __future__ import annotations

import random
import socket

HOST = "127.0.0.1"
_BELOW_EPHEMERAL = range(10_000, 32_000)
"""Where systems give no port to an outgoing connection, which could take one between its choice and its use."""
_TRIES = 100


def is_free(port: int) -> bool:
    """Whether a server could listen on it now. Connections of an earlier server that still fade away do not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def free_port(preferred: int = 0) -> int:
    """`preferred` where it is free, else any that is."""
    if preferred and is_free(preferred):
        return preferred
    for port in random.sample(_BELOW_EPHEMERAL, _TRIES):
        if is_free(port):
            return port
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        picked: int = probe.getsockname()[1]
        return picked
