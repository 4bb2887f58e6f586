"""A client closes in time, whatever the broker does."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from crew import Client
from crew.jobs import JobStore
from crew.jobs.tuning import JobTuning
from crew.settings import Tuning
from tests.support import stores
from tests.support.links import ignored
from tests.support.proxy import Proxy
from tests.support.waiting import until

# Short timeouts, so that the tests are quick.
QUICK = Tuning(close_timeout=0.1, delete_timeout=0.1)


def quick_store(folder: Path) -> JobStore:
    """A job store with short timeouts."""
    return JobStore(f"sqlite:///{folder}/jobs.db", tuning=JobTuning(pause_timeout=0.1))


@pytest.mark.parametrize("has_jobs", [False, True])
@pytest.mark.gen_test
async def test_a_client_closes_even_if_the_broker_no_longer_responds(
    has_jobs: bool, broker_url: str, proxied: Callable[[str], Proxy], tmp_path: Path
) -> None:
    proxy = proxied(broker_url)
    client = Client(proxy.url, store=quick_store(tmp_path) if has_jobs else None, tuning=QUICK)
    await client.connect()
    await client.subscribe("news", ignored).ready()
    if has_jobs:
        await client.jobs.ready()
        await client.jobs._link.ready()
    proxy.half_open()
    begin = time.monotonic()
    await client.close()
    assert time.monotonic() - begin < 2, "the heartbeat timeout is 15 s"


@pytest.mark.gen_test
async def test_canceling_the_close_of_a_client_leaves_no_connection_open(
    broker_url: str, proxied: Callable[[str], Proxy]
) -> None:
    proxy = proxied(broker_url)
    client = Client(proxy.url, tuning=QUICK)
    await client.connect()
    proxy.delay(0.05)
    closing = asyncio.ensure_future(client.close())
    await asyncio.sleep(0.02)
    closing.cancel()
    await asyncio.wait([closing])
    await until(lambda: proxy.connections == 0)


@pytest.mark.gen_test
async def test_a_recorded_job_is_accepted_even_if_its_client_closes_before_publishing_it(
    broker_url: str, proxied: Callable[[str], Proxy], tmp_path: Path, prefix: str
) -> None:
    proxy, url = proxied(broker_url), f"sqlite:///{tmp_path}/jobs.db"
    async with Client(proxy.url, store=quick_store(tmp_path), tuning=QUICK) as client:
        await client.submit(prefix + "late", wait_for_worker=True)  # opens all connections
        proxy.half_open()
        submitting = asyncio.ensure_future(client.submit(prefix + "late", wait_for_worker=True))
        await until(lambda: client.jobs._publisher._in_background)
    job = await submitting
    async with stores.opened(url) as [store]:
        assert (await store.get(job.id)).publish_at is not None, "another gateway publishes it"
