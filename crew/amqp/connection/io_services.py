"""pika's adapter of the event loop, in which a peer that resets at once is a failed attempt to connect."""

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from typing import Any

from pika.adapters.asyncio_connection import _AsyncioIOServicesAdapter


class IOServices(_AsyncioIOServicesAdapter):  # type: ignore[misc]  # pika has no types
    """As pika's adapter, but handle a connection that is accepted and reset at once, as by a proxy without its broker.

    pika checks the socket once more and raises an exception that nothing catches. The attempt would then last until its
    timeout.

    Attributes:
        sockets: the sockets that it was given to connect.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.sockets: list[socket.socket] = []

    def connect_socket(self, sock: socket.socket, resolved_addr: Any, on_done: Callable[[Any], None]) -> Any:
        """See pika."""
        self.sockets.append(sock)
        return super().connect_socket(sock, resolved_addr, on_done)

    def create_streaming_connection(
        self, protocol_factory: Callable[[], Any], sock: socket.socket, on_done: Callable[[Any], None], **options: Any
    ) -> Any:
        """See pika; `on_done` is called for every failure."""
        try:
            return super().create_streaming_connection(protocol_factory, sock, on_done, **options)
        except ValueError:
            error = ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
            return self.call_later(0, lambda: on_done(error))
