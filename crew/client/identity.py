"""Who a client is: a name for people, and an id that nobody else has."""

import os
import socket
from typing import Final

from crew.protocol import topology
from crew.protocol.message import new_id

NAME_BYTES: Final = 100  # it begins the names of queues, which have 255


def identity(name: str | None) -> tuple[str, str]:
    """The name, by default host and pid, and the id of a new client; raises ValueError where it cannot be one."""
    given = topology.check_name("name", name or f"{socket.gethostname()}-{os.getpid()}")
    short = given.encode()[:NAME_BYTES].decode(errors="ignore")
    return short, f"{short}-{new_id()[:12]}"
