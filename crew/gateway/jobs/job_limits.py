"""The limits of a gateway for the jobs that are submitted to it: each refusal says what may be."""

from typing import Any, Final

from crew.client import Client
from crew.gateway.problems import RequestRefused, check_most
from crew.jobs import Job, JobHandle, JobService
from crew.jobs.quota import Quota, QuotaExceeded
from crew.jobs.specification import FAILURE_TTL, REQUEST_MARGIN, RESULT_TTL, TIMEOUT
from crew.jobs.store.insert import Candidate
from crew.limits import GatewayLimits
from crew.protocol.http_job.request import DEFAULT_TIMEOUT

RETRY_AFTER: Final = 5  # seconds: some job may have ended by then


class JobLimits:
    """What jobs may ask for, and how many there may be.

    Args:
        jobs: runs them.
        limits: of the operator.

    Attributes:
        max_page: jobs on one page of a list.
    """

    def __init__(self, jobs: JobService, limits: GatewayLimits) -> None:
        self.max_page = limits.max_page
        self._limits = limits
        self._jobs = jobs
        self._quota = Quota(jobs.usage, limits)

    def defaults(self, *, is_url: bool) -> dict[str, Any]:
        """The terms of a job that says nothing of them, where crew's own would exceed a limit."""
        most, ttl = self._limits.max_timeout, self._limits.max_ttl
        found: dict[str, Any] = {}
        if most is not None and most < (DEFAULT_TIMEOUT if is_url else TIMEOUT):
            found["timeout"] = most
        for name, usual in (("result_ttl", RESULT_TTL), ("failure_ttl", FAILURE_TTL)):
            if ttl is not None and ttl < usual:
                found[name] = ttl
        return found

    def check(self, job: Job) -> None:
        """Raise RequestRefused where `job` asks for more than it may."""
        asked = job.timeout if job.timeout is None or not job.is_http else job.timeout - REQUEST_MARGIN
        check_most("timeout", asked, self._limits.max_timeout)
        check_most("result_ttl", job.result_ttl, self._limits.max_ttl)
        check_most("failure_ttl", job.failure_ttl, self._limits.max_ttl)

    async def submit(self, client: Client, candidate: Candidate) -> JobHandle:
        """Submit a job within the limits; raises RequestRefused where there are too many."""
        self.check(candidate.job)
        client.open()
        try:
            async with self._quota.taken(candidate.job):
                return await self._jobs.submit_order(candidate)
        except QuotaExceeded as exceeded:
            status = 429 if exceeded.is_of_client else 503
            raise RequestRefused(status, str(exceeded), name="too-many-jobs", retry_after=RETRY_AFTER) from None
