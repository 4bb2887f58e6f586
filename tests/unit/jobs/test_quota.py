"""Limits for queued and running jobs."""

from collections.abc import Sequence

import pytest

from crew.jobs import quota
from crew.jobs.job import Job
from crew.jobs.quota import Quota, QuotaExceeded, Usage
from crew.limits import GatewayLimits
from crew.protocol.message import Body
from tests.support.a_job import a_job


class Store:
    """A fake store: its jobs, and how often they were counted."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.counted = 0
        self.now = 1000.0

    def quota(self, limits: GatewayLimits) -> Quota:
        """A quota of this store, whose clock the test moves."""
        return Quota(self.usage, limits, clock=lambda: self.now)

    async def usage(self) -> Sequence[Usage]:
        self.counted += 1
        return [Usage(submitter=one.submitter, target=one.target, jobs=1, size=10) for one in self.jobs]


async def submit(limited: Quota, store: Store, **fields: object) -> None:
    job = a_job(body=Body(bytes(10), None, None), **fields)
    async with limited.taken(job):
        store.jobs.append(job)


@pytest.mark.parametrize(
    ("limits", "fields", "message", "is_of_client"),
    [
        (GatewayLimits(max_jobs=3), {}, "the limit of 3 queued and running jobs here is reached", False),
        (
            GatewayLimits(max_jobs_per_token=3),
            {"submitter": "a"},
            "3 queued and running jobs of this token",
            True,
        ),
        (
            GatewayLimits(max_jobs_per_host=3),
            {"target": "h.example"},
            "jobs for host 'h.example' is",
            True,
        ),
        (GatewayLimits(max_job_bytes=30), {}, "the payloads of queued and running jobs here have 30 bytes", False),
        (
            GatewayLimits(max_job_bytes_per_token=39),
            {"submitter": "a"},
            "this job has 10: together more",
            True,
        ),
        (GatewayLimits(max_job_bytes_per_host=30), {"target": "h"}, "together more than the limit of 30 bytes", True),
    ],
)
@pytest.mark.gen_test
async def test_a_job_over_a_limit_is_refused_until_other_jobs_have_ended(
    limits: GatewayLimits, fields: dict[str, str], message: str, is_of_client: bool
) -> None:
    store = Store()
    limited = store.quota(limits)
    for _ in range(3):
        await submit(limited, store, **fields)
    with pytest.raises(QuotaExceeded, match=message) as refused:
        await submit(limited, store, **fields)
    assert refused.value.is_of_client is is_of_client
    assert store.counted == 1

    store.now += quota.COUNT_EVERY
    with pytest.raises(QuotaExceeded):
        await submit(limited, store, **fields)
    store.jobs.pop()
    store.now += quota.COUNT_EVERY
    await submit(limited, store, **fields)
    assert store.counted == 3


@pytest.mark.gen_test
async def test_each_token_and_each_host_has_its_own_limit() -> None:
    store = Store()
    limited = Quota(store.usage, GatewayLimits(max_jobs_per_token=1, max_jobs_per_host=1))
    await submit(limited, store, submitter="a", target="h")
    await submit(limited, store, submitter="b", target="i")
    await submit(limited, store, submitter="c")
    for _ in range(2):
        await submit(limited, store)  # a host, without a token
    for fields in ({"submitter": "a"}, {"submitter": "d", "target": "h"}):
        with pytest.raises(QuotaExceeded):
            await submit(limited, store, **fields)


@pytest.mark.gen_test
async def test_a_job_whose_submit_failed_is_not_counted() -> None:
    store = Store()
    limited = Quota(store.usage, GatewayLimits(max_jobs=1))
    with pytest.raises(ZeroDivisionError):
        async with limited.taken(a_job()):
            raise ZeroDivisionError
    await submit(limited, store)


@pytest.mark.gen_test
async def test_jobs_that_are_being_submitted_are_counted() -> None:
    store = Store()
    limited = store.quota(GatewayLimits(max_jobs=2))
    async with limited.taken(a_job()), limited.taken(a_job()):
        store.now += quota.COUNT_EVERY  # the store is counted while the jobs are being submitted
        with pytest.raises(QuotaExceeded):
            await submit(limited, store)


@pytest.mark.gen_test
async def test_without_limits_nothing_is_counted() -> None:
    store = Store()
    limited = Quota(store.usage, GatewayLimits(max_page=10))
    for _ in range(5):
        await submit(limited, store)
    assert store.counted == 0
    assert quota.COUNT_EVERY == 1.0
