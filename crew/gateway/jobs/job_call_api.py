"""`POST /call/<task>` where jobs are there: who would not wait to the end is told where the rest is found."""

import functools
from typing import Any, Final

import msgspec
from tornado.web import stream_request_body

from crew.client import Scope, off_loop
from crew.errors import Canceled, ConnectionError, TooLarge
from crew.gateway.calls.call_api import SERIALIZERS, CallHandler
from crew.gateway.jobs.job_handler import APPLIED, JobResponseMixin, WaitMixin
from crew.gateway.jobs.job_limits import JobLimits
from crew.gateway.jobs.prefer import Preferences
from crew.gateway.problems import bad_argument
from crew.gateway.serving.auth import submitter_of
from crew.jobs import Job, JobHandle, JobService
from crew.jobs.specification import order
from crew.protocol.encoding import codec
from crew.protocol.topology import HTTP_TASK

_TERMS: Final = ("priority", "expiration", "timeout")


@stream_request_body
class JobCallHandler(JobResponseMixin, WaitMixin, CallHandler):
    """As `CallHandler`, for clients without `Prefer`.

    With `Prefer: wait=N` the call is a job from the start: its value is answered as ever where it is there within N
    seconds; else 202, with the Location of the job, which goes on. `Prefer: respond-async` answers 202 at once, with a
    `wait` beside it after that. A client that goes while it waits cancels the job. `expiration` is how long the job may
    wait for its first worker, as long as it takes unless it is given, and `timeout` how long it may run, 10 minutes.
    """

    def initialize(  # type: ignore[override]  # takes more
        self, *, jobs: JobService, root: str, limits: JobLimits, **given: Any
    ) -> None:
        """Take what the route gives."""
        super().initialize(**given)
        self.jobs, self.root, self.limits = jobs, root, limits

    async def post(self, task: str) -> None:
        """Call `task`, or submit it; wait, answer."""
        self.check_size()
        preferences = self.preferences()
        if preferences.wait is None and not preferences.respond_async:
            await super().post(task)
            return
        job = await self._submitted(task, preferences)
        if job is not None:
            self.set_header(APPLIED, f"wait={preferences.wait}")
            await self.respond_with_job(job, content_type=self.content_type())

    async def _submitted(self, task: str, preferences: Preferences) -> Job | None:
        """The job where it has ended in time; None where its client has been told where it is."""
        handle = await self._submit(task)
        if preferences.wait is not None:
            job = await self._waited(handle, preferences.wait)
            if job is not None and job.status.is_final:
                return job
        self.set_status(202)
        self.set_header(APPLIED, _applied(preferences))
        self.set_header("Location", f"{self.root}{handle.id}/")
        self.respond_encoded(msgspec.json.encode({"id": handle.id}))
        return None

    async def _submit(self, task: str) -> JobHandle:
        content_type = self.content_type()
        given = {name: self._term(name) for name in _TERMS if name in self.request.query_arguments}
        terms = self.limits.defaults(is_url=task == HTTP_TASK) | given
        payload: Any = await self.payload(content_type)
        is_large = codec.is_large(payload)
        if task == HTTP_TASK:
            payload = await off_loop.decoded(payload)
        ordering = functools.partial(
            order,
            task,
            payload,
            serializer=SERIALIZERS[content_type],
            origin=self.request.remote_ip,
            submitter=submitter_of(self.request),
            max_message=self.client.max_message,
            **terms,
        )
        try:
            job = await off_loop.run(ordering, is_large=is_large)
        except TooLarge:
            raise
        except ValueError as error:
            raise bad_argument(error) from None
        await self.guard.check_job(job.job)
        return await self.limits.submit(self.client, job)

    async def _waited(self, handle: JobHandle, wait: int) -> Job | None:
        """The job as it is then; None where nobody can tell: it was accepted, and must not be made again."""
        try:
            return await self.wait_for_job(handle.id, wait)
        except ConnectionError:
            return None
        except Canceled as gone:
            if gone.is_abandoned:
                with Scope():
                    await handle.cancel()
            raise

    def _term(self, name: str) -> Any:
        """As it stands in the query: durations may have a unit."""
        text = self.get_query_argument(name)
        return int(text) if name == "priority" and text.isdecimal() and len(text) < 10 else text


def _applied(preferences: Preferences) -> str:
    said = ["respond-async"] if preferences.respond_async else []
    return ", ".join(said if preferences.wait is None else [*said, f"wait={preferences.wait}"])
