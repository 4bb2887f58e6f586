"""Client of epmd, the daemon in which Erlang nodes find each other. Each private node has its own, on its own port.

The protocol has one request per connection: two bytes of length, then a letter.
https://www.erlang.org/doc/apps/erts/erl_dist_protocol.html
"""

import socket
import time
from typing import Final

_NAMES: Final = b"n"
_KILL: Final = b"k"
_TIMEOUT: Final = 2.0  # seconds; epmd answers within a millisecond, another program on its port may never answer
_POLL: Final = 0.02  # seconds


def answers(port: int) -> bool:
    """Whether an epmd listens on `port` of this host."""
    return _ask(port, _NAMES)[:4] == port.to_bytes(4, "big")


def stop(port: int, *, within: float = _TIMEOUT) -> bool:
    """Stop the epmd on `port`, if there is one; returns False if it still runs after `within` seconds.

    epmd refuses to stop while a node is registered, and notices the end of a node with a short delay.
    """
    deadline = time.monotonic() + within
    while answers(port):
        if _ask(port, _KILL) != b"OK" and time.monotonic() > deadline:
            return False
        time.sleep(_POLL)
    return True


def _ask(port: int, request: bytes) -> bytes:
    """The answer of epmd, or the part that arrived before the timeout."""
    answer = b""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT) as connection:
            connection.sendall(len(request).to_bytes(2, "big") + request)
            while part := connection.recv(4096):
                answer += part
    except OSError:
        pass
    return answer
