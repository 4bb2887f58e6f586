"""`/jobs/<uuid>/`: one job, its status, and what came of it."""

from typing import Final

import msgspec

from crew.client import off_loop
from crew.gateway.calls.reply_headers import JOB_STATUS
from crew.gateway.calls.value_response import HeadMixin
from crew.gateway.jobs.job_handler import APPLIED, JobHandlerBase, id_of
from crew.gateway.problems import RequestRefused
from crew.jobs import Job, JobStatus
from crew.jobs.record import record
from crew.protocol.encoding import codec

NOTHING: Final = b"{}"  # in place of a value that is not there


class JobHandler(HeadMixin, JobHandlerBase):
    """`GET`: the record of a job. `DELETE`: cancels it, or deletes the response of one that has ended.

    The record stays. A URL job has what it asks for, with the names that the HTTP Task Queue (htq) gives it. `error`
    has the traceback of the task for a client that has brought the token, and where the application is being debugged.
    """

    async def get(self, id: str) -> None:
        """Tell."""
        job = await self.jobs.get_with_request(id_of(id))
        self.link(
            {
                "self": self.path_of(job.id),
                "status": self.path_of(job.id, "status/"),
                "response": self.path_of(job.id, "response/"),
                "events": self.path_of(job.id, "events"),
            }
        )
        self.respond_encoded(await self._record(job))

    async def _record(self, job: Job) -> bytes:
        def encoded() -> bytes:
            return msgspec.json.encode(record(job, shows_query=True, shows_traceback=self.shows_tracebacks))

        return await off_loop.run(encoded, is_large=job.body is not None and codec.is_large(job.body))

    async def delete(self, id: str) -> None:
        """Cancel, or delete the response."""
        if not await self.jobs.cancel(id_of(id)):
            await self.jobs.discard_response(id_of(id))
        self.set_status(204)


class JobStatusHandler(HeadMixin, JobHandlerBase):
    """`GET`: `{"status": ...}`."""

    async def get(self, id: str) -> None:
        """Tell."""
        job = await self.jobs.get(id_of(id), with_bodies=False)
        self.respond_encoded(msgspec.json.encode({"status": job.status.value}))


class JobResponseHandler(HeadMixin, JobHandlerBase):
    """`GET`: the value of the job's task, as soon as it has ended. `DELETE`: the value is deleted, the record stays.

    A value that came as MessagePack, as the job's payload did, is answered in it: JSON has no bytes, for one. That of
    a URL job has the members of the HTTP Task Queue (htq) beside its own. The job of a task that has failed is answered
    with the problem document that a call would have had. `{}` is answered for a job that was cancelled, a URL job
    without a response, and where the value was deleted. `Prefer: wait=N` bounds the wait: a job that goes on then is
    answered with 202 and `{}`. `Crew-Job-Status` tells all of them apart.
    """

    _job: Job | None = None

    def set_default_headers(self) -> None:
        """Those that a problem document has, too."""
        self.set_header("Vary", "Prefer")  # RFC 7240, 2: for caches
        if self._job is not None:
            self.set_header(JOB_STATUS, self._job.status.value)
            job, response = self.path_of(self._job.id), self.path_of(self._job.id, "response/")
            self.link({"self": response, "request": job})

    async def get(self, id: str) -> None:
        """Wait, and answer."""
        wait = self.preferences().wait
        self._job = job = await self.wait_for_job(id_of(id), wait)
        self.set_default_headers()
        if wait is not None:
            self.set_header(APPLIED, f"wait={wait}")
        if job.status.is_final:
            await self._answer(job)
        else:
            self.set_status(202)
            self.respond_encoded(NOTHING)

    async def delete(self, id: str) -> None:
        """Delete the value."""
        if not await self.jobs.delete_result(id_of(id)):
            await self.jobs.get(id_of(id), with_bodies=False)  # or it is the job that is not there
            raise RequestRefused(404, f"job {id_of(id)} has no response", name="no-response")
        self.set_status(204)

    async def _answer(self, job: Job) -> None:
        result = job.result
        if result is None and not _has_failed(job):
            self.respond_encoded(NOTHING)
        elif _is_plain(job):
            assert result is not None
            self.respond_encoded(result.data)
        else:
            content_type = result.content_type if result is not None else None
            await self.respond_with_job(job, content_type=content_type or codec.JSON)


def _has_failed(job: Job) -> bool:
    """Whether there is no value because the task failed. Of a response that was deleted, the failure was, too."""
    return not job.is_http and job.failure is not None and job.status is not JobStatus.CANCELED


def _is_plain(job: Job) -> bool:
    """Whether the value may be answered as it is stored."""
    result = job.result
    is_json = result is not None and result.content_type == codec.JSON and result.content_encoding is None
    return is_json and not job.result_headers and not job.is_http
