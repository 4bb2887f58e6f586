"""Shared parts of the job handlers: waiting for a job while the client is connected, responses, ids and links."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from crew.errors import Canceled
from crew.gateway.body import NoBodyMixin
from crew.gateway.calls.value_response import ValueResponseMixin
from crew.gateway.jobs import prefer
from crew.gateway.jobs.prefer import Preferences
from crew.gateway.problems import NotReady, ProblemMixin, RequestRefused
from crew.gateway.serving.request_scope import REASON, AbandonMixin
from crew.jobs import Job, JobService, JobStatus
from crew.jobs.records import url_job
from crew.jobs.specification import check_id

APPLIED: Final = "Preference-Applied"

T = TypeVar("T")


class WaitMixin(AbandonMixin, ProblemMixin):
    """For handlers that wait for a job on behalf of their client."""

    jobs: JobService
    _wait_timeout: asyncio.Timeout | None = None

    async def wait_for_job(self, id: str, wait: int | None) -> Job:
        """The record of a job: when it has ended, after `wait` seconds, or when the gateway begins to drain.

        Raises:
            Canceled: the HTTP client disconnected.
            NotReady: the gateway drains, the job has not ended, and the client has set no `wait`.
        """
        job = await self._while_connected(lambda: self.jobs.wait(id, wait))
        if wait is None and not job.status.is_final:
            raise NotReady(f"job {id} has not ended, but this gateway is draining: repeat the request")
        return job

    def on_connection_close(self) -> None:
        """Stop waiting."""
        super().on_connection_close()
        if self._wait_timeout is not None:
            self._wait_timeout.reschedule(asyncio.get_running_loop().time())

    def preferences(self) -> Preferences:
        """The header `Prefer`; raises RequestRefused if it is invalid."""
        try:
            return prefer.parse(self.request.headers.get_list("Prefer"))
        except ValueError as error:
            raise RequestRefused(400, str(error), name="bad-prefer") from None

    async def _while_connected(self, step: Callable[[], Awaitable[T]]) -> T:
        if self._crew_scope.is_abandoned:
            raise Canceled(REASON, is_abandoned=True)
        try:
            async with asyncio.timeout(None) as timeout:
                self._wait_timeout = timeout
                return await step()
        except TimeoutError:
            if not timeout.expired():
                raise
            raise Canceled(REASON, is_abandoned=True) from None
        finally:
            self._wait_timeout = None


class JobResponseMixin(ValueResponseMixin):
    """For handlers that respond with the value of a job that has ended."""

    jobs: JobService

    async def respond_with_job(self, job: Job, *, content_type: str) -> None:
        """Respond with its value; raises the error that a call would have raised."""
        result = job.result
        if job.status is JobStatus.SUCCESS and result is not None and not job.is_http:
            await self.respond_with_body(result, job.result_headers, decode=self.jobs.decode, content_type=content_type)
            return
        value = await self.jobs.value_of(job)
        value = url_job.response(job, value) if job.is_http else value
        self.respond(value, job.result_headers, content_type=content_type)


class JobHandlerBase(NoBodyMixin, JobResponseMixin, WaitMixin):
    """Base of the handlers below `<prefix>/jobs/`.

    Args:
        jobs: the service that runs jobs.
        root: start of their paths, like "/jobs/".
    """

    def initialize(self, *, jobs: JobService, root: str, **_: Any) -> None:
        """Set the arguments of the route."""
        self.jobs, self.root = jobs, root

    @property
    def shows_tracebacks(self) -> bool:
        """Whether records have tracebacks: requests need a token, or the application runs in debug mode."""
        has_token: bool = getattr(self.application, "has_token", False)
        return has_token or bool(self.settings.get("serve_traceback"))

    def path_of(self, id: str, part: str = "") -> str:
        """The path of a job, or of a part of it."""
        return f"{self.root}{id}/{part}"

    def set_links(self, links: dict[str, str]) -> None:
        """Set the header `Link` (RFC 8288): paths by their relations."""
        self.set_header("Link", ", ".join(f'<{path}>; rel="{rel}"' for rel, path in links.items()))


def id_of(text: str) -> str:
    """The job id in a path; raises RequestRefused if it is not valid."""
    try:
        return check_id(text)
    except ValueError as error:
        raise RequestRefused(400, str(error), name="bad-id") from None
