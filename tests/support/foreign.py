"""An AMQP sender that writes raw frames: it can send messages that pika would refuse."""

import socket
import struct
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

from pika import frame, spec

TIMEOUT = 10.0  # seconds to wait for the broker
CHANNEL = 1


class Foreign:
    """One connection with one channel and confirms; it reconnects if the broker closes it because of a message.

    Attributes:
        confirmed: number of messages that the broker has confirmed.
        refused: number of messages because of which it has closed the channel or the connection.
    """

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)
        self.confirmed = 0
        self.refused = 0
        self._socket: socket.socket | None = None
        self._buffer = b""

    def __enter__(self) -> "Foreign":
        self._connect()
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self._close()

    def send(self, exchange: str, key: str, header: bytes, body: bytes) -> bool:
        """Publish a message; returns whether the broker has confirmed it.

        Args:
            header: flags and properties of a content header, after the size of the body.
        """
        assert self._socket is not None
        head = struct.pack(">HHQ", 60, 0, len(body)) + header
        frames = [
            frame.Method(CHANNEL, spec.Basic.Publish(exchange=exchange, routing_key=key)).marshal(),
            struct.pack(">BHI", 2, CHANNEL, len(head)) + head + b"\xce",
        ]
        if body:
            frames.append(struct.pack(">BHI", 3, CHANNEL, len(body)) + body + b"\xce")
        try:
            self._socket.sendall(b"".join(frames))
            taken = isinstance(self._next_method(), spec.Basic.Ack)
        except OSError:
            taken = False
        self.confirmed += taken
        self.refused += not taken
        if not taken:
            self._close()
            self._connect()
        return taken

    def _connect(self) -> None:
        self._socket = socket.create_connection((self._url.hostname, self._url.port), timeout=TIMEOUT)
        self._buffer = b""
        self._socket.sendall(b"AMQP\x00\x00\x09\x01")
        self._next_method()
        login = f"\0{unquote(self._url.username or '')}\0{unquote(self._url.password or '')}"
        self._request(0, spec.Connection.StartOk(mechanism="PLAIN", response=login))
        self._send_method(0, spec.Connection.TuneOk(channel_max=10, frame_max=131072, heartbeat=0))
        self._request(0, spec.Connection.Open(virtual_host=unquote(self._url.path[1:]) or "/"))
        self._request(CHANNEL, spec.Channel.Open())
        self._request(CHANNEL, spec.Confirm.Select())

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()

    def _send_method(self, channel: int, method: Any) -> None:
        assert self._socket is not None
        self._socket.sendall(frame.Method(channel, method).marshal())

    def _request(self, channel: int, method: Any) -> None:
        self._send_method(channel, method)
        self._next_method()

    def _next_method(self) -> Any:
        """Wait for the next method of the broker."""
        assert self._socket is not None
        while True:
            consumed, found = frame.decode_frame(self._buffer)
            self._buffer = self._buffer[consumed:]
            if isinstance(found, frame.Method):
                return found.method
            if found is None:
                more = self._socket.recv(65536)
                if not more:
                    raise ConnectionResetError("the broker has closed the connection")
                self._buffer += more
