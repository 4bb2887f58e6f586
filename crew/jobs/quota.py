"""Limits the number of queued and running jobs, and the bytes of their payloads.

The jobs in the store are counted at most once a second. Jobs submitted here since then are added to that count. So
several gateways with one store may exceed a limit by the jobs that the others submit within that second.
"""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Final

import msgspec

from crew.clock import monotonic_time
from crew.errors import Overloaded
from crew.jobs.job import Job
from crew.limits import GatewayLimits

COUNT_EVERY: Final = 1.0  # seconds
COUNT_FOR: Final = 0.05  # of the time, at most: if a count takes long, the store is counted less often


class QuotaExceeded(Overloaded):
    """A job would exceed a limit for queued and running jobs.

    Attributes:
        is_of_client: whether the limit is for its token or its host, not for the whole store.
    """

    def __init__(self, message: str, *, is_of_client: bool) -> None:
        super().__init__(message)
        self.is_of_client = is_of_client


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """The queued and running jobs of one token and one host.

    Attributes:
        submitter: name of the token; None: no token, or submitted by a program.
        target: host of their URLs; None: not URL jobs.
        jobs: the number of jobs.
        size: bytes of their payloads.
    """

    submitter: str | None
    target: str | None
    jobs: int
    size: int


class _Submitted(msgspec.Struct, eq=False):
    """A job that was submitted here, until the count of the store includes it."""

    usage: Usage
    committed: float | None = None  # by the clock of the quota


class Quota:
    """Admits jobs within `limits`.

    Args:
        count: counts the queued and running jobs of the store.
        limits: set by the operator.
        clock: seconds. Default: time.monotonic.
    """

    def __init__(
        self,
        count: Callable[[], Awaitable[Sequence[Usage]]],
        limits: GatewayLimits,
        *,
        clock: Callable[[], float] = monotonic_time,
    ) -> None:
        self._count = count
        self._limits = limits
        self._clock = clock
        self._counted: Sequence[Usage] = ()
        self._next = -math.inf  # by the clock: when the store is counted again
        self._counting = asyncio.Lock()
        self._submitted: list[_Submitted] = []
        of_jobs = (limits.max_jobs, limits.max_jobs_per_token, limits.max_jobs_per_host)
        of_bytes = (limits.max_job_bytes, limits.max_job_bytes_per_token, limits.max_job_bytes_per_host)
        self._has_limits = any(limit is not None for limit in (*of_jobs, *of_bytes))

    @contextlib.asynccontextmanager
    async def taken(self, job: Job) -> AsyncIterator[None]:
        """Count the job, and submit it within the block; if the block raises, the job is not counted.

        Raises:
            QuotaExceeded: the job would exceed a limit.
            ConnectionError: the job store is unavailable.
        """
        if not self._has_limits:
            yield
            return
        await self._recount()
        size = 0 if job.body is None else len(job.body.data)
        mine = Usage(submitter=job.submitter, target=job.target, jobs=1, size=size)
        self._check(mine)
        submitted = _Submitted(mine)
        self._submitted.append(submitted)
        try:
            yield
        except BaseException:
            self._submitted.remove(submitted)
            raise
        submitted.committed = self._clock()

    async def _recount(self) -> None:
        async with self._counting:
            began = self._clock()
            if began < self._next:
                return
            self._counted = await self._count()
            self._submitted = [one for one in self._submitted if one.committed is None or one.committed >= began]
            took = self._clock() - began
            self._next = began + max(COUNT_EVERY, took / COUNT_FOR)

    def _check(self, mine: Usage) -> None:
        limits = self._limits
        used = [*self._counted, *(one.usage for one in self._submitted)]
        if mine.submitter is not None:
            of_token = [one for one in used if one.submitter == mine.submitter]
            whose = "of this token"
            _check(of_token, mine, whose, limits.max_jobs_per_token, limits.max_job_bytes_per_token, is_of_client=True)
        if mine.target is not None:
            of_host = [one for one in used if one.target == mine.target]
            whose = f"for host {mine.target!r}"
            _check(of_host, mine, whose, limits.max_jobs_per_host, limits.max_job_bytes_per_host, is_of_client=True)
        _check(used, mine, "here", limits.max_jobs, limits.max_job_bytes, is_of_client=False)


def _check(
    used: Iterable[Usage], mine: Usage, whose: str, most: int | None, most_bytes: int | None, *, is_of_client: bool
) -> None:
    jobs = size = 0
    for one in used:
        jobs, size = jobs + one.jobs, size + one.size
    if most is not None and jobs + mine.jobs > most:
        message = f"the limit of {most} queued and running jobs {whose} is reached: submit again when some have ended"
        raise QuotaExceeded(message, is_of_client=is_of_client)
    if most_bytes is not None and size + mine.size > most_bytes:
        message = (
            f"the payloads of queued and running jobs {whose} have {size} bytes, and this job has {mine.size}: "
            f"together more than the limit of {most_bytes} bytes; submit again when some have ended"
        )
        raise QuotaExceeded(message, is_of_client=is_of_client)
