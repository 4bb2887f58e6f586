"""The event loop as pika sees it, where a peer that is gone already is one more failed attempt to connect."""

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from typing import Any

from pika.adapters.asyncio_connection import _AsyncioIOServicesAdapter


class IOServices(_AsyncioIOServicesAdapter):  # type: ignore[misc]  # pika has no types
    """As pika's, for a connection that is accepted and reset at once, as a proxy does whose broker is away.

    pika looks at the socket again, and raises where nobody catches it: the attempt would have no end but its timeout.

    Attributes:
        sockets: that it was given to connect.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.sockets: list[socket.socket] = []

    def connect_socket(self, sock: socket.socket, resolved_addr: Any, on_done: Callable[[Any], None]) -> Any:
        """As pika's."""
        self.sockets.append(sock)
        return super().connect_socket(sock, resolved_addr, on_done)

    def create_streaming_connection(
        self, protocol_factory: Callable[[], Any], sock: socket.socket, on_done: Callable[[Any], None], **options: Any
    ) -> Any:
        """As pika's; `on_done` is told of every failure."""
        try:
            return super().create_streaming_connection(protocol_factory, sock, on_done, **options)
        except ValueError:
            error = ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
            return self.call_later(0, lambda: on_done(error))
