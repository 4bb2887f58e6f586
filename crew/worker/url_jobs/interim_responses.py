"""Limits the informational responses (1xx) that aiohttp skips before the response itself."""

from typing import Any

from aiohttp import ClientConnectionError, ClientResponse

from crew.worker.url_jobs.wire_limits import MAX_INTERIM


class TooManyInterim(ClientConnectionError):
    """A server has sent more than MAX_INTERIM informational responses."""


class BoundedResponse(ClientResponse):
    """A response of aiohttp that counts the informational responses before it."""

    async def start(self, connection: Any) -> ClientResponse:
        """As in ClientResponse, which skips informational responses without a limit."""
        protocol, seen = connection.protocol, 0
        read = protocol.read

        async def counted() -> Any:
            nonlocal seen
            seen += 1
            if seen > MAX_INTERIM + 1:
                raise TooManyInterim
            return await read()

        protocol.read = counted  # protocol and connection belong to this request only
        try:
            return await super().start(connection)
        finally:
            del protocol.read
