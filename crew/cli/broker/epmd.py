"""epmd, the daemon in which Erlang nodes look each other up: every private node has its own, on its own port.

Its protocol is one request a connection: two bytes of length, then a letter.
https://www.erlang.org/doc/apps/erts/erl_dist_protocol.html
"""

import socket
import time
from typing import Final

_NAMES: Final = b"n"
_KILL: Final = b"k"
_PATIENCE: Final = 2.0  # seconds; it answers within a millisecond, and another program on its port perhaps never
_POLL: Final = 0.02  # seconds


def answers(port: int) -> bool:
    """Whether what listens on `port` of this host is an epmd."""
    return _ask(port, _NAMES)[:4] == port.to_bytes(4, "big")


def stop(port: int, *, within: float = _PATIENCE) -> bool:
    """End the epmd on `port`, where there is one; False where it would not.

    It refuses while a node is registered, and takes a moment to notice that a node has ended.
    """
    deadline = time.monotonic() + within
    while answers(port):
        if _ask(port, _KILL) != b"OK" and time.monotonic() > deadline:
            return False
        time.sleep(_POLL)
    return True


def _ask(port: int, request: bytes) -> bytes:
    """The whole answer, or what of it came in time."""
    answer = b""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE) as connection:
            connection.sendall(len(request).to_bytes(2, "big") + request)
            while part := connection.recv(4096):
                answer += part
    except OSError:
        pass
    return answer
