"""A load generator for HTTP: some connections, each with one request at a time, at little cost."""

import asyncio
import time
from typing import Final

CONNECTIONS: Final = 32
TIMEOUT: Final = 30.0  # seconds, beyond the load itself


class _Connection(asyncio.Protocol):
    """Sends a request again as soon as the response is complete.

    All responses are as long as the first one, which is parsed.
    """

    def __init__(self, request: bytes, end: float) -> None:
        self._request = request
        self._end = end
        self._received = b""
        self._length = 0  # bytes of a response
        self.responses = 0
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Count a complete response, and send the next request."""
        self._received += data
        self._length = self._length or _length(self._received)
        if not self._length or len(self._received) < self._length:
            return
        if not self._received.startswith(b"HTTP/1.1 200 "):
            self._transport.abort()
            raise RuntimeError(f"the handler responded with {self._received[:200]!r}")
        self._received = self._received[self._length :]
        self.responses += 1
        if time.perf_counter() < self._end:
            self._transport.write(self._request)
        else:
            self._transport.close()

    def connection_lost(self, _: Exception | None) -> None:
        """The load of this connection has ended."""
        self.closed.set_result(None)


def _length(received: bytes) -> int:
    """Bytes of the whole response; 0 while its head is incomplete."""
    head, end, _ = received.partition(b"\r\n\r\n")
    if not end:
        return 0
    headers = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    return len(head) + len(end) + int(headers[b"content-length"])


def requests_per_second(port: int, path: str, seconds: float) -> float:
    """Request a path of 127.0.0.1 for some seconds; raises RuntimeError if there is no response."""
    return asyncio.run(_load(port, path, seconds))


async def _load(port: int, path: str, seconds: float) -> float:
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    start = time.perf_counter()
    loop = asyncio.get_running_loop()
    connections = [
        (await loop.create_connection(lambda: _Connection(request, start + seconds), "127.0.0.1", port))[1]
        for _ in range(CONNECTIONS)
    ]
    async with asyncio.timeout(seconds + TIMEOUT):
        await asyncio.gather(*(connection.closed for connection in connections))
    count = sum(connection.responses for connection in connections)
    if not count:
        raise RuntimeError(f"no response to {path}")
    return count / (time.perf_counter() - start)
