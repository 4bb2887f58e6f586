"""An HTTP client that sends its whole request before it reads the response, as most clients do."""

import asyncio
from typing import Final

MUCH: Final = 5 * 1024 * 1024  # bytes: more than the buffers on the way


class Sender:
    """One connection to the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def of(cls, port: int) -> "Sender":
        """Connect to a port of this machine."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def post(self, size: int) -> bytes:
        """Post a body of `size` bytes; return the head of the response."""
        self._writer.write(f"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n".encode())
        self._writer.write(bytes(size))
        await self._writer.drain()
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await self._reader.readexactly(length)
        return head

    async def is_closed(self) -> bool:
        """Wait for the next byte or the end; return whether the server has closed the connection."""
        return await self._reader.read(1) == b""

    async def disconnect(self) -> None:
        """Close the connection."""
        self._writer.close()
        await self._writer.wait_closed()
