"""`POST /call/<task>` of a gateway with a job store: the header `Prefer` turns a call into a job."""

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
from crew.jobs.specification import specify
from crew.protocol.encoding import codec
from crew.protocol.topology import HTTP_TASK

_OPTIONS: Final = ("priority", "expiration", "timeout")


@stream_request_body
class JobCallHandler(JobResponseMixin, WaitMixin, CallHandler):
    """As `CallHandler`, if the request has no header `Prefer`.

    With `Prefer: wait=N` the call is a job from the start. If it ends within N seconds, the response is that of a call;
    otherwise it is 202 with the Location of the job, which goes on. With `Prefer: respond-async` the response is 202 at
    once; together with `wait=N` it is as with `wait=N` alone. A client that disconnects while it waits cancels the job.
    `expiration` limits how long the job may wait for its first start (default: no limit), `timeout` how long it may run
    (default: 10 minutes).
    """

    def initialize(  # type: ignore[override]  # takes more
        self, *, jobs: JobService, root: str, limits: JobLimits, **given: Any
    ) -> None:
        """Set the arguments of the route."""
        super().initialize(**given)
        self.jobs, self.root, self.limits = jobs, root, limits

    async def post(self, task: str) -> None:
        """Call `task`, or submit a job; wait, and respond."""
        self.check_size()
        preferences = self.preferences()
        if preferences.wait is None and not preferences.respond_async:
            await super().post(task)
            return
        job = await self._submit_and_wait(task, preferences)
        if job is not None:
            self.set_header(APPLIED, f"wait={preferences.wait}")
            await self.respond_with_job(job, content_type=self.content_type())

    async def _submit_and_wait(self, task: str, preferences: Preferences) -> Job | None:
        """The job if it has ended in time; None if the response was 202."""
        handle = await self._submit(task)
        if preferences.wait is not None:
            job = await self._wait(handle, preferences.wait)
            if job is not None and job.status.is_final:
                return job
        self.set_status(202)
        self.set_header(APPLIED, _applied(preferences))
        self.set_header("Location", f"{self.root}{handle.id}/")
        self.respond_encoded(msgspec.json.encode({"id": handle.id}))
        return None

    async def _submit(self, task: str) -> JobHandle:
        self.check_query(*self.parameters)
        content_type = self.content_type()
        given = {name: self._option(name) for name in _OPTIONS if name in self.request.query_arguments}
        options = self.limits.defaults(is_url=task == HTTP_TASK) | given
        payload: Any = await self.payload(content_type)
        is_large = codec.is_large(payload)
        if task == HTTP_TASK:
            payload = await off_loop.decoded(payload)
        make_job = functools.partial(
            specify,
            task,
            payload,
            serializer=SERIALIZERS[content_type],
            origin=self.request.remote_ip,
            submitter=submitter_of(self.request),
            max_message=self.client.max_message,
            **options,
        )
        try:
            job = await off_loop.run(make_job, is_large=is_large)
        except TooLarge:
            raise
        except ValueError as error:
            raise bad_argument(error) from None
        await self.guard.check_job(job)
        return await self.limits.submit(self.client, job)

    async def _wait(self, handle: JobHandle, wait: int) -> Job | None:
        """The job after the wait; None if the store is unavailable: an error would make the client submit it again."""
        try:
            return await self.wait_for_job(handle.id, wait)
        except ConnectionError:
            return None
        except Canceled as canceled:
            if canceled.is_abandoned:
                with Scope():
                    await handle.cancel()
            raise

    def _option(self, name: str) -> Any:
        """An option from the query: text, as durations may have a unit; the priority as a number."""
        text = self.get_query_argument(name)
        return int(text) if name == "priority" and text.isdecimal() and len(text) < 10 else text


def _applied(preferences: Preferences) -> str:
    applied = ["respond-async"] if preferences.respond_async else []
    return ", ".join(applied if preferences.wait is None else [*applied, f"wait={preferences.wait}"])
