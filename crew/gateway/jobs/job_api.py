"""`/jobs/<uuid>/`: the record of one job, its status, and its response."""

from typing import Final

import msgspec

from crew.client import off_loop
from crew.gateway.body import HeadMixin
from crew.gateway.calls.reply_headers import JOB_STATUS
from crew.gateway.jobs.job_handler import APPLIED, JobHandlerBase, id_of
from crew.gateway.problems import RequestRefused
from crew.jobs import Job, JobStatus
from crew.jobs.records.record import record
from crew.protocol.encoding import codec

NOTHING: Final = b"{}"  # the response if there is no value


class JobHandler(HeadMixin, JobHandlerBase):
    """`GET`: the record of a job. `DELETE`: cancels it; if it has ended, deletes its response. The record stays.

    The record of a URL job also has the members of its request, named as in the HTTP Task Queue (htq). `error` has the
    traceback of the task if the client has sent a token, or the application runs in debug mode.
    """

    async def get(self, id: str) -> None:
        """Respond with the record."""
        self.check_query()
        job = await self.jobs.get_with_request(id_of(id))
        self.set_links(
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
        """Cancel the job, or delete its response."""
        self.check_query()
        if not await self.jobs.cancel(id_of(id)):
            await self.jobs.discard_response(id_of(id))
        self.set_status(204)


class JobStatusHandler(HeadMixin, JobHandlerBase):
    """`GET`: `{"status": ...}`."""

    async def get(self, id: str) -> None:
        """Respond with the status."""
        self.check_query()
        job = await self.jobs.get(id_of(id), with_bodies=False)
        self.respond_encoded(msgspec.json.encode({"status": job.status.value}))


class JobResponseHandler(HeadMixin, JobHandlerBase):
    """`GET`: waits until the job ends, and responds with its value. `DELETE`: deletes the value; the record stays.

    The value is MessagePack if the job's payload was, because JSON cannot represent bytes. The value of a URL job has
    the members of the HTTP Task Queue (htq) beside its own. If the task failed, the response is the problem document
    that a call would have got. The response is `{}` if the job was canceled, if a URL job has no response, and if the
    value was deleted. `Prefer: wait=N` limits the wait: if the job has not ended then, the response is 202 and `{}`.
    The header `Crew-Job-Status` distinguishes these cases.
    """

    _job: Job | None = None

    def set_default_headers(self) -> None:
        """Set the headers that a problem document has, too."""
        self.set_header("Vary", "Prefer")  # for caches: RFC 7240, section 2
        if self._job is not None:
            self.set_header(JOB_STATUS, self._job.status.value)
            job, response = self.path_of(self._job.id), self.path_of(self._job.id, "response/")
            self.set_links({"self": response, "request": job})

    async def get(self, id: str) -> None:
        """Wait for the end of the job, and respond with its value."""
        self.check_query()
        wait = self.preferences().wait
        self._job = job = await self.wait_for_job(id_of(id), wait)
        self.set_default_headers()
        if wait is not None:
            self.set_header(APPLIED, f"wait={wait}")
        if job.status.is_final:
            await self._respond(job)
        else:
            self.set_status(202)
            self.respond_encoded(NOTHING)

    async def delete(self, id: str) -> None:
        """Delete the value."""
        self.check_query()
        if not await self.jobs.delete_result(id_of(id)):
            await self.jobs.get(id_of(id), with_bodies=False)  # raises UnknownJob if there is no job
            raise RequestRefused(404, f"job {id_of(id)} has no response to delete", name="no-response")
        self.set_status(204)

    async def _respond(self, job: Job) -> None:
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
    """Whether the job has a failure to report. Deleting a response deletes its failure, too."""
    return not job.is_http and job.failure is not None and job.status is not JobStatus.CANCELED


def _is_plain(job: Job) -> bool:
    """Whether the stored bytes of the value can be sent as they are."""
    result = job.result
    is_json = result is not None and result.content_type == codec.JSON and result.content_encoding is None
    return is_json and not job.result_headers and not job.is_http
