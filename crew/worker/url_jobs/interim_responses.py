"""A response of aiohttp that does not wait for ever behind informational ones (1xx)."""

from typing import Any

from aiohttp import ClientConnectionError, ClientResponse

from crew.worker.url_jobs.wire_limits import MAX_INTERIM


class TooManyInterim(ClientConnectionError):
    """A server has sent more informational responses than it may."""


class BoundedResponse(ClientResponse):
    """Counts what comes before it."""

    async def start(self, connection: Any) -> ClientResponse:
        """As ClientResponse, which skips informational responses without a bound."""
        protocol, seen = connection.protocol, 0
        read = protocol.read

        async def counted() -> Any:
            nonlocal seen
            seen += 1
            if seen > MAX_INTERIM + 1:
                raise TooManyInterim
            return await read()

        protocol.read = counted  # the protocol is of this connection, and the connection of this request
        try:
            return await super().start(connection)
        finally:
            del protocol.read
