"""What the handlers of jobs share: who waits is let go with its client, and how a job is named and linked."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from crew.errors import Canceled
from crew.gateway.calls.body import NoBodyMixin
from crew.gateway.calls.value_response import ValueResponseMixin
from crew.gateway.jobs import prefer
from crew.gateway.jobs.prefer import Preferences
from crew.gateway.problems import NotReady, ProblemMixin, RequestRefused
from crew.gateway.serving.request_scope import REASON, AbandonMixin
from crew.jobs import Job, JobService, JobStatus, url_job
from crew.jobs.specification import check_id

APPLIED: Final = "Preference-Applied"

T = TypeVar("T")


class WaitMixin(AbandonMixin, ProblemMixin):
    """For handlers that wait for a job on behalf of their client."""

    jobs: JobService
    _wait_timeout: asyncio.Timeout | None = None

    async def wait_for_job(self, id: str, wait: int | None) -> Job:
        """The record of a job when it has ended, or as it is after `wait` seconds, or when the gateway is to end.

        Raises:
            Canceled: the HTTP client has gone.
            NotReady: the gateway is to end, and nothing was said of how long to wait.
        """
        job = await self._while_connected(lambda: self.jobs.wait(id, wait))
        if wait is None and not job.status.is_final:
            raise NotReady(f"job {id} goes on, but this gateway ends: ask again, and another one waits for it")
        return job

    def on_connection_close(self) -> None:
        """Wait no longer."""
        super().on_connection_close()
        if self._wait_timeout is not None:
            self._wait_timeout.reschedule(asyncio.get_running_loop().time())

    def preferences(self) -> Preferences:
        """What the client would like; raises RequestRefused where it cannot be read."""
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
    """For handlers that answer with the value of a job that has ended."""

    jobs: JobService

    async def respond_with_job(self, job: Job, *, content_type: str) -> None:
        """With its value; raises what a call would have raised."""
        result = job.result
        if job.status is JobStatus.SUCCESS and result is not None and not job.is_http:
            await self.respond_with_body(result, job.result_headers, decode=self.jobs.decode, content_type=content_type)
            return
        value = await self.jobs.value_of(job)
        value = url_job.response(job, value) if job.is_http else value
        self.respond(value, job.result_headers, content_type=content_type)


class JobHandlerBase(NoBodyMixin, JobResponseMixin, WaitMixin):
    """A handler below `<prefix>/jobs/`.

    Args:
        jobs: runs them.
        root: path of all of them, like "/jobs/".
    """

    def initialize(self, *, jobs: JobService, root: str, **_: Any) -> None:
        """Take what the route gives."""
        self.jobs, self.root = jobs, root

    @property
    def shows_tracebacks(self) -> bool:
        """Whether records have tracebacks: the client has brought the token, or the application is being debugged."""
        has_token: bool = getattr(self.application, "has_token", False)  # nobody else comes in
        return has_token or bool(self.settings.get("serve_traceback"))

    def path_of(self, id: str, part: str = "") -> str:
        """Of a job, or of a part of it."""
        return f"{self.root}{id}/{part}"

    def link(self, links: dict[str, str]) -> None:
        """Say where to go on: RFC 8288."""
        self.set_header("Link", ", ".join(f'<{path}>; rel="{rel}"' for rel, path in links.items()))


def id_of(text: str) -> str:
    """The id that a path names; raises RequestRefused where it is none."""
    try:
        return check_id(text)
    except ValueError as error:
        raise RequestRefused(400, str(error), name="bad-id") from None
