"""Limits for jobs that are submitted through a gateway: durations, and the number of unfinished jobs."""

from typing import Any, Final

from crew.client import Client
from crew.gateway.problems import RequestRefused, check_most
from crew.jobs import Job, JobHandle, JobService
from crew.jobs.quota import Quota, QuotaExceeded
from crew.jobs.specification import FAILURE_TTL, REQUEST_MARGIN, RESULT_TTL, TIMEOUT, Specification
from crew.limits import GatewayLimits
from crew.protocol.http_job.request import DEFAULT_TIMEOUT

RETRY_AFTER: Final = 5  # seconds: a job may have ended by then


class JobLimits:
    """Checks jobs against the limits of the operator before they are submitted.

    Args:
        jobs: the service that runs jobs.
        limits: the operator's limits.

    Attributes:
        max_page: the maximum number of jobs on one page of a list.
    """

    def __init__(self, jobs: JobService, limits: GatewayLimits) -> None:
        self.max_page = limits.max_page
        self._limits = limits
        self._jobs = jobs
        self._quota = Quota(jobs.usage, limits)

    def defaults(self, *, is_url: bool) -> dict[str, Any]:
        """The durations of a job that does not set them, where the usual defaults would exceed a limit."""
        most, ttl = self._limits.max_timeout, self._limits.max_ttl
        found: dict[str, Any] = {}
        if most is not None and most < (DEFAULT_TIMEOUT if is_url else TIMEOUT):
            found["timeout"] = most
        for name, usual in (("result_ttl", RESULT_TTL), ("failure_ttl", FAILURE_TTL)):
            if ttl is not None and ttl < usual:
                found[name] = ttl
        return found

    def check(self, job: Job) -> None:
        """Raise RequestRefused if a duration of `job` exceeds its limit."""
        asked = job.timeout if job.timeout is None or not job.is_http else job.timeout - REQUEST_MARGIN
        check_most("timeout", asked, self._limits.max_timeout)
        check_most("result_ttl", job.result_ttl, self._limits.max_ttl)
        check_most("failure_ttl", job.failure_ttl, self._limits.max_ttl)

    async def submit(self, client: Client, specification: Specification) -> JobHandle:
        """Submit a job; raises RequestRefused if it exceeds a limit, or if there are too many jobs."""
        self.check(specification.job)
        client.open()
        try:
            async with self._quota.taken(specification.job):
                return await self._jobs.submit_specification(specification)
        except QuotaExceeded as exceeded:
            status = 429 if exceeded.is_of_client else 503
            raise RequestRefused(status, str(exceeded), name="too-many-jobs", retry_after=RETRY_AFTER) from None
