"""A minimal HTTP client with keep-alive connections and JSON only, to use little CPU next to the tested gateway."""

import asyncio
import json
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import msgspec

END_OF_HEAD = b"\r\n\r\n"


class Response(msgspec.Struct, frozen=True):
    """A response of the gateway."""

    status: int
    body: bytes

    @property
    def json(self) -> Any:
        """The decoded body."""
        return json.loads(self.body)


class KeepAlive:
    """A client of the gateway at `address`, like http://127.0.0.1:8888; one connection for each concurrent request."""

    def __init__(self, address: str) -> None:
        self._host, self._port = urlsplit(address).hostname, urlsplit(address).port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def request(self, method: str, path: str, body: Any = None) -> Response:
        """Send a request and wait for the response; raises OSError or EOFError if the connection ends before it."""
        data = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Length: {len(data)}\r\n"
        head += "Content-Type: application/json\r\n" if data else ""
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection(self._host, self._port)
        writer.write(head.encode() + b"\r\n" + data)
        response = await _response(reader)
        self._idle.append((reader, writer))
        return response

    async def close(self) -> None:
        """Close the connections."""
        for _, writer in self._idle:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
        self._idle.clear()


async def _response(reader: asyncio.StreamReader) -> Response:
    status, _, rest = (await reader.readuntil(END_OF_HEAD)).partition(b"\r\n")
    headers = dict(line.lower().split(b": ", 1) for line in rest.splitlines() if line)
    return Response(int(status.split()[1]), await reader.readexactly(int(headers.get(b"content-length", 0))))
