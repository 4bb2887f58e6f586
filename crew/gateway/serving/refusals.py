"""Responses of a gateway that drains or is at its limit of connections."""

from typing import Any

from crew.gateway.body import NoBodyMixin
from crew.gateway.problems import RETRY_AFTER, NotReady, RefusalMixin, RequestRefused
from crew.gateway.serving.connections import PER_PEER


class ClosingHandler(NoBodyMixin, RefusalMixin):
    """Refuses the request, closes the connection, and logs nothing."""

    def set_default_headers(self) -> None:
        """Tell the client that the connection is closed."""
        self.set_header("Connection", "close")

    def on_finish(self) -> None:
        """Close the connection: Tornado follows this header of a request only, not of a response."""
        connection: Any = self.request.connection  # the interface of HTTPConnection lacks its stream
        if not connection.stream.writing():
            connection.stream.close()

    def _log(self) -> None:
        """Write no line into the access log."""


class DrainingHandler(ClosingHandler):
    """The response of a gateway that drains."""

    def refusal(self) -> NotReady:
        """The same for all requests: another gateway may accept them."""
        return NotReady("the gateway is draining: it accepts no new requests; send the request to another gateway")


class ConnectionLimitHandler(ClosingHandler):
    """The response on a connection that exceeds a limit.

    Args:
        exceeded: the limit.
    """

    def initialize(self, *, exceeded: str) -> None:
        """Set the arguments of the route."""
        self._exceeded = exceeded

    def refusal(self) -> RequestRefused:
        """429 if the client's own address has too many connections, else 503."""
        if self._exceeded == PER_PEER:
            detail = "your address has too many connections to this gateway: close some, or wait for their responses"
            return RequestRefused(429, detail, name="too-many-connections", retry_after=RETRY_AFTER)
        detail = "this gateway has reached its limit of connections: retry later, or use another gateway"
        return RequestRefused(503, detail, name="too-many-connections", retry_after=RETRY_AFTER)
