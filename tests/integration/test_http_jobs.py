"""URL jobs from submit to their record: a job store, a real worker with --http, and real servers."""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

import crew
from crew import Client
from crew.jobs import Job, JobStatus, JobStore
from crew.protocol.topology import HTTP_TASK
from tests.integration.conftest import HTTP
from tests.support.http_site import http_site
from tests.support.processes import Process, running
from tests.support.waiting import until


@pytest.fixture
def jobs_client(http_url: str, tmp_path: Path) -> Client:
    """A client with its own job store."""
    return Client(http_url, store=JobStore(f"sqlite:///{tmp_path}/jobs.db"))


async def ended(handle: Any) -> Job:
    """The record of a job, after its end."""
    job: Job = await handle._service.wait(handle.id, 15)
    assert job.status.is_final, job
    return job


async def delete_of(handle: Any) -> Any:
    """The DELETE in the progress of a job, as soon as it is recorded."""
    deadline = time.monotonic() + 5
    while (progress := (await handle.job()).progress) is None:
        assert time.monotonic() < deadline, "no DELETE was recorded"
        await asyncio.sleep(0.02)
    return msgspec.json.decode(progress)["delete"]


@pytest.mark.gen_test
async def test_a_url_job_has_the_response_as_its_result(jobs_client: Client, http_worker: Process) -> None:
    async with http_site() as site, jobs_client as client:
        handle = await client.submit(HTTP_TASK, {"url": site.url("/echo"), "data": {"a": 1}})
        job, response = await ended(handle), await handle.result()
    assert (job.status, response["code"], response["reason"], site.methods()) == (
        JobStatus.SUCCESS,
        200,
        "OK",
        ["POST"],
    )
    assert job.host is not None
    assert job.host.rpartition(":")[2] != str(os.getpid())


@pytest.mark.gen_test
async def test_a_url_job_has_status_error_if_the_response_status_is_400_or_more(
    jobs_client: Client, http_worker: Process
) -> None:
    async with http_site() as site, jobs_client as client:
        job = await ended(await client.submit(HTTP_TASK, {"url": site.url("/status?code=418&reason=Teapot")}))
    assert job.status is JobStatus.ERROR
    assert job.result is not None
    assert b"Teapot" in job.result.data


@pytest.mark.gen_test
async def test_a_url_job_that_takes_too_long_has_status_timeout(jobs_client: Client, http_worker: Process) -> None:
    async with http_site() as site, jobs_client as client:
        handle = await client.submit(HTTP_TASK, {"url": site.url("/slow"), "timeout": 0.3})
        assert (await ended(handle)).status is JobStatus.TIMEOUT
        with pytest.raises(crew.TimeoutError, match=r"no complete response within 0\.3 s"):
            await handle.result()
        await until(lambda: site.left, timeout=1)
    assert site.methods() == ["GET"]


@pytest.mark.gen_test
async def test_a_canceled_url_job_sends_a_delete_and_records_the_response(
    jobs_client: Client, http_worker: Process
) -> None:
    async with http_site() as site, jobs_client as client:
        handle = await client.submit(HTTP_TASK, {"url": site.url("/slow"), "headers": {"X-A": "1"}})
        await until(lambda: site.seen)
        began = time.monotonic()
        assert await handle.cancel()
        await until(lambda: len(site.seen) == 2 and site.left, timeout=1)
        assert time.monotonic() - began < 1
        assert await handle.status() is JobStatus.CANCELED

        response = await delete_of(handle)
    assert (response["code"], response["reason"]) == (200, "OK")
    assert 0 <= response["elapsed_ms"] < 1000
    assert [one.headers["X-A"] for one in site.seen] == ["1", "1"]


@pytest.mark.gen_test
async def test_a_delete_that_fails_is_recorded_with_its_error(jobs_client: Client, http_worker: Process) -> None:
    async with jobs_client as client:
        async with http_site() as site:
            handle = await client.submit(HTTP_TASK, {"url": site.url("/slow?key=s3cret", login="me:s3cret@")})
            await until(lambda: site.seen)
            site.close()
            assert await handle.cancel()
            await until(lambda: site.left)
        message = (await delete_of(handle))["error"]
    assert message.startswith(f"DELETE {site.url('/slow')}?*** failed: cannot connect to its host")
    assert "s3cret" not in message


@pytest.mark.gen_test
async def test_a_url_job_that_is_submitted_before_the_first_worker_starts_waits_for_it(
    vhost_url: Callable[[], str], tmp_path: Path
) -> None:
    url = vhost_url()
    store = JobStore(f"sqlite:///{tmp_path}/jobs.db")
    with running(tmp_path, {"CREW_AMQP_URL": url}, preloaded=True) as processes:
        async with http_site() as site, Client(url, store=store) as client:
            handle = await client.submit(HTTP_TASK, {"url": site.url("/echo")})
            assert await handle.status() is JobStatus.QUEUED
            processes.crew(*HTTP)
            assert (await ended(handle)).status is JobStatus.SUCCESS


@pytest.mark.gen_test
async def test_a_url_job_to_an_internal_host_fails_with_the_reason(jobs_client: Client, http_worker: Process) -> None:
    async with jobs_client as client:
        handle = await client.submit(HTTP_TASK, {"url": "http://10.0.0.1/"})
        assert (await ended(handle)).status is JobStatus.ERROR
        with pytest.raises(crew.TaskFailed, match=r"host '10\.0\.0\.1' has a private address"):
            await handle.result()


@pytest.mark.gen_test
async def test_an_invalid_request_is_refused_at_submit(jobs_client: Client) -> None:
    async with jobs_client as client:
        with pytest.raises(ValueError, match="is not a valid URL for a job"):
            await client.submit(HTTP_TASK, {"url": "ftp://example.org/"})


@pytest.mark.gen_test(timeout=60)
async def test_hundreds_of_url_jobs_run_at_a_time(jobs_client: Client, http_worker: Process) -> None:
    async with http_site() as site, jobs_client as client:
        began = time.monotonic()
        handles = await asyncio.gather(
            *(client.submit(HTTP_TASK, {"url": site.url("/slow?for=0.5")}) for _ in range(150))
        )
        jobs = await asyncio.gather(*map(ended, handles))
        assert time.monotonic() - began < 15  # 75 s, one after the other
    assert {job.status for job in jobs} == {JobStatus.SUCCESS}
