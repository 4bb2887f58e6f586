"""How many jobs may be queued and running at a time, and how many bytes their payloads may have.

The job store is counted at most once a second, and what is submitted here meanwhile is added. So several gateways with
one store may exceed a limit by what the others submit within that second.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Final

import msgspec

from crew.errors import Overloaded
from crew.jobs.job import Job
from crew.limits import GatewayLimits

COUNT_EVERY: Final = 1.0  # seconds
COUNT_FOR: Final = 0.05  # of the time, at most: a store that counts for long is counted less often


class QuotaExceeded(Overloaded):
    """A job would exceed a limit of jobs that are queued and running.

    Attributes:
        is_of_client: whether the limit is one of its submitter or its host, not one of the whole store.
    """

    def __init__(self, message: str, *, is_of_client: bool) -> None:
        super().__init__(message)
        self.is_of_client = is_of_client


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs that are queued or running.

    Attributes:
        submitter: name of the token that submitted them; None: none, or a program has.
        target: host of their URLs; None: they are no URL jobs.
        jobs: how many they are.
        size: bytes of their payloads.
    """

    submitter: str | None
    target: str | None
    jobs: int
    size: int


class _Submitted(msgspec.Struct, eq=False):
    """A job that was submitted here; it is counted until the store is known to count it."""

    usage: Usage
    committed: float | None = None  # time.monotonic()


class Quota:
    """Lets jobs be submitted within `limits`.

    Args:
        count: what the job store has queued and running.
        limits: of an operator.
    """

    def __init__(self, count: Callable[[], Awaitable[Sequence[Usage]]], limits: GatewayLimits) -> None:
        self._count = count
        self._limits = limits
        self._counted: Sequence[Usage] = ()
        self._next = 0.0  # time.monotonic() from which on the store is counted again
        self._counting = asyncio.Lock()
        self._submitted: list[_Submitted] = []
        of_jobs = (limits.max_jobs, limits.max_jobs_per_token, limits.max_jobs_per_host)
        of_bytes = (limits.max_job_bytes, limits.max_job_bytes_per_token, limits.max_job_bytes_per_host)
        self._has_limits = any(limit is not None for limit in (*of_jobs, *of_bytes))

    @contextlib.asynccontextmanager
    async def taken(self, job: Job) -> AsyncIterator[None]:
        """The job may be submitted within the block, and counts; if that raises, it does not.

        Raises:
            QuotaExceeded: it may not.
            ConnectionError: the job store is away.
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
        submitted.committed = time.monotonic()

    async def _recount(self) -> None:
        async with self._counting:
            began = time.monotonic()
            if began < self._next:
                return
            self._counted = await self._count()
            self._submitted = [one for one in self._submitted if one.committed is None or one.committed >= began]
            took = time.monotonic() - began
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
        told = f"as many jobs {whose} are queued or running as may be, {most}: submit it again when some have ended"
        raise QuotaExceeded(told, is_of_client=is_of_client)
    if most_bytes is not None and size + mine.size > most_bytes:
        told = (
            f"the jobs {whose} that are queued or running have {size} bytes of payload, and with the {mine.size} bytes "
            f"of this one more than the {most_bytes} that they may have: submit it again when some have ended"
        )
        raise QuotaExceeded(told, is_of_client=is_of_client)
