"""`/jobs/<uuid>/`: one job, its status, and what came of it."""

from typing import Final

import msgspec

from crew.gateway.answers import HeadMixin
from crew.gateway.job_handler import APPLIED, JobHandlerBase, id_of
from crew.gateway.problems import Refused
from crew.jobs import Job
from crew.jobs.record import record
from crew.protocol import codec

NOTHING: Final = b"{}"  # in place of a value that is not there


class JobHandler(HeadMixin, JobHandlerBase):
    """`GET`: the record of a job. `DELETE`: gives it up; the record stays, and where it had ended nothing happens."""

    async def get(self, id: str) -> None:
        """Tell."""
        job = await self.jobs.get(id_of(id), with_bodies=False)
        self.link(
            {
                "self": self.path_of(job.id),
                "status": self.path_of(job.id, "status/"),
                "response": self.path_of(job.id, "response/"),
                "events": self.path_of(job.id, "events"),
            }
        )
        self.answer_encoded(msgspec.json.encode(record(job)))

    async def delete(self, id: str) -> None:
        """Cancel."""
        await self.jobs.cancel(id_of(id))
        self.set_status(204)


class JobStatusHandler(HeadMixin, JobHandlerBase):
    """`GET`: `{"status": ...}`."""

    async def get(self, id: str) -> None:
        """Tell."""
        job = await self.jobs.get(id_of(id), with_bodies=False)
        self.answer_encoded(msgspec.json.encode({"status": job.status.value}))


class JobResponseHandler(HeadMixin, JobHandlerBase):
    """`GET`: the value of the job's task, as soon as it has ended. `DELETE`: the value is deleted, the record stays.

    A value that came as MessagePack, as the job's payload did, is answered in it: JSON has no bytes, for one.
    `{}` is answered where there is no value, as the record says why, or where it was deleted. `Prefer: wait=N` bounds
    the wait: a job that goes on then is answered with 202 and `{}`.
    """

    async def get(self, id: str) -> None:
        """Wait, and answer."""
        self.set_header("Vary", "Prefer")  # RFC 7240, 2: for caches
        wait = self.preferences().wait
        job = await self.wait_for_job(id_of(id), wait)
        if wait is not None:
            self.set_header(APPLIED, f"wait={wait}")
        if job.status.is_final:
            self._answer(job)
        else:
            self.set_status(202)
            self.answer_encoded(NOTHING)

    async def delete(self, id: str) -> None:
        """Delete the value."""
        if not await self.jobs.delete_result(id_of(id)):
            await self.jobs.get(id_of(id), with_bodies=False)  # or it is the job that is not there
            raise Refused(404, f"job {id_of(id)} has no response", name="no-response")
        self.set_status(204)

    def _answer(self, job: Job) -> None:
        result = job.result
        if result is None:
            self.answer_encoded(NOTHING)
        elif result.content_type == codec.JSON and result.content_encoding is None and not job.result_headers:
            self.answer_encoded(result.data)
        else:
            self.answer(self.jobs.value_of(job), job.result_headers, content_type=result.content_type or codec.JSON)
