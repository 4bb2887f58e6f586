"""A client for server-sent events, with its own connection."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

AS_STREAM = {"Accept": "text/event-stream"}


class Stream:
    """The stream of a job's events, read as a browser does."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._pending: list[str] = []
        self.comments = 0
        self.retry = 0

    @classmethod
    async def started(cls, port: int, path: str, headers: Mapping[str, str] = AS_STREAM) -> "Stream":
        """Connect, and request the stream."""
        self = cls(*await asyncio.open_connection("127.0.0.1", port))
        sent = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{sent}\r\n".encode())
        return self

    async def head(self) -> tuple[int, dict[str, str]]:
        """Status and headers of the response."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        return int(head[0].split()[1]), dict(line.split(": ", 1) for line in head[1:] if line)

    async def event(self) -> tuple[str, str, Any] | None:
        """Id, type and data of the next event; None at the end of the stream."""
        while (block := await self._block()) is not None:
            fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
            if "data" in fields:
                return fields["id"], fields["event"], json.loads(fields["data"])
            self.retry = int(fields.get("retry", self.retry))
            self.comments += block.startswith(":")
        return None

    async def rest(self) -> list[tuple[str, str, Any]]:
        """All events until the end of the stream."""
        events = []
        while (event := await self.event()) is not None:
            events.append(event)
        return events

    def disconnect(self) -> None:
        """Close the connection."""
        self._writer.close()

    async def _block(self) -> str | None:
        """The next block. Each flush of the gateway is one HTTP chunk; the last chunk is empty."""
        if not self._pending:
            size = int(await self._reader.readline(), 16)
            chunk = (await self._reader.readexactly(size + 2))[:-2].decode()
            self._pending = chunk.split("\n\n")[:-1]
        return self._pending.pop(0) if self._pending else None
