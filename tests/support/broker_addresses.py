"""Addresses at which no broker is."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def nowhere() -> Iterator[str]:
    """The URL of a broker that is not there; nobody else gets its port meanwhile."""
    with socket.socket() as bound:  # bound, and never listening
        bound.bind(("127.0.0.1", 0))
        yield f"amqp://guest:secret@127.0.0.1:{bound.getsockname()[1]}/%2F"
