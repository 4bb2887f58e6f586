"""`GET /healthz` and `GET /readyz`, for load balancers; the responses of a gateway that drains or is at its limits."""

from collections.abc import Awaitable
from typing import Any

from crew.client import Client
from crew.errors import ConnectionError
from crew.gateway.calls.body import NoBodyMixin
from crew.gateway.calls.value_response import HeadMixin
from crew.gateway.problems import RETRY_AFTER, NotReady, ProblemMixin, RefusalMixin, RequestRefused
from crew.gateway.serving.connections import PER_PEER


class StatusHandler(HeadMixin, ProblemMixin):
    """Base of the health checks. It logs nothing, because it is requested every second."""

    def log_exception(self, *_: Any) -> None:
        """Log nothing: the response has the reason."""

    def get(self) -> Awaitable[None] | None:
        """Respond, or raise."""
        raise NotImplementedError

    def _log(self) -> None:
        """Write no line into the access log."""


class HealthHandler(NoBodyMixin, StatusHandler):
    """`GET /healthz`: 200 while the process is alive, even without a broker: a restart would not repair the broker."""

    def get(self) -> None:
        """Respond with 200."""
        self.check_query()
        self.write({"status": "alive"})


class ReadyHandler(NoBodyMixin, StatusHandler):
    """`GET /readyz`: 200 if a call can be sent at once and, with a job store, a job recorded; else 503 with the reason.

    Args:
        client: makes the calls. The request makes it connect: until the gateway is ready, a load balancer sends no
            other request that would.
    """

    def initialize(self, *, client: Client) -> None:
        """Set the arguments of the route."""
        self.client = client

    async def get(self) -> None:
        """Respond with 200.

        Raises:
            NotReady: something is missing.
        """
        self.check_query()
        try:
            self.client.open()
        except ConnectionError as closed:
            raise NotReady(str(closed)) from None
        if obstacles := await self._obstacles():
            raise NotReady("; ".join(obstacles))
        self.write({"status": "ready"})

    async def _obstacles(self) -> list[str]:
        """What is missing, one sentence each: the broker, the job store."""
        of_store = await self.client.jobs.obstacle() if self.client.has_jobs else None
        return [obstacle for obstacle in (self.client.obstacle, of_store) if obstacle is not None]


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
