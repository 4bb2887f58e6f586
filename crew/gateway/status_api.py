"""`GET /healthz` and `GET /readyz`, for load balancers."""

from collections.abc import Awaitable
from typing import Any

from crew.client import Client
from crew.errors import ConnectionError
from crew.gateway.body import HeadMixin, NoBodyMixin
from crew.gateway.problems import NotReady, ProblemMixin


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
