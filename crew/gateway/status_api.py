"""`GET /healthz` and `GET /readyz`: what a load balancer or an orchestrator asks."""

from collections.abc import Awaitable
from typing import Any

from crew.client import Client
from crew.errors import ConnectionError
from crew.gateway.calls.body import NoBodyMixin
from crew.gateway.calls.value_response import HeadMixin
from crew.gateway.problem_mixin import ProblemMixin, RefusingMixin
from crew.gateway.problems import RETRY_AFTER, NotReady, Refused
from crew.gateway.serving.connections import PER_PEER


class StatusHandler(HeadMixin, ProblemMixin):
    """Asked every second, so it logs nothing."""

    def log_exception(self, *_: Any) -> None:
        """Whoever asks is told."""

    def get(self) -> Awaitable[None] | None:
        """Answer, or raise."""
        raise NotImplementedError

    def _log(self) -> None:
        """No line in the access log."""


class HealthHandler(NoBodyMixin, StatusHandler):
    """200 where the process is alive, whatever becomes of the broker: who starts it again mends no broker."""

    def get(self) -> None:
        """Answer."""
        self.write({"status": "alive"})


class ReadyHandler(NoBodyMixin, StatusHandler):
    """200 if a call would be sent at once and, with a job store, a job recorded; else 503, and a problem says why not.

    Args:
        client: makes the calls. It begins to connect, as nobody would be sent here to make the first call.
    """

    def initialize(self, *, client: Client) -> None:
        """Take what the route gives."""
        self.client = client

    async def get(self) -> None:
        """Answer."""
        try:
            self.client.open()
        except ConnectionError as closed:
            raise NotReady(str(closed)) from None
        if obstacles := await self._obstacles():
            raise NotReady("; ".join(obstacles))
        self.write({"status": "ready"})

    async def _obstacles(self) -> list[str]:
        """What is missing, a sentence each: the broker, the job store."""
        of_store = await self.client.jobs.obstacle() if self.client.has_jobs else None
        return [obstacle for obstacle in (self.client.obstacle, of_store) if obstacle is not None]


class ClosingHandler(NoBodyMixin, RefusingMixin):
    """Refuses, closes the connection, and logs nothing of it."""

    def set_default_headers(self) -> None:
        """The next request needs another connection."""
        self.set_header("Connection", "close")

    def on_finish(self) -> None:
        """Close the connection: Tornado does what requests say of it, and not what answers do."""
        connection: Any = self.request.connection  # the interface of HTTPConnection lacks its stream
        if not connection.stream.writing():
            connection.stream.close()

    def _log(self) -> None:
        """No line in the access log."""


class RefusalHandler(ClosingHandler):
    """The answer of a gateway that drains."""

    def refusal(self) -> NotReady:
        """The same for all: another gateway may take the request."""
        return NotReady("the gateway is draining: it takes no new requests")


class CrowdedHandler(ClosingHandler):
    """The answer to a connection beyond a limit.

    Args:
        beyond: which limit.
    """

    def initialize(self, *, beyond: str) -> None:
        """Take what the route gives."""
        self._beyond = beyond

    def refusal(self) -> Refused:
        """429 where the client has too many connections itself, else 503."""
        if self._beyond == PER_PEER:
            told = "your address has too many connections to this gateway: close some, or wait for their answers"
            return Refused(429, told, name="too-many-connections", retry_after=RETRY_AFTER)
        told = "this gateway has as many connections as it may: try again, or ask another one"
        return Refused(503, told, name="too-many-connections", retry_after=RETRY_AFTER)
