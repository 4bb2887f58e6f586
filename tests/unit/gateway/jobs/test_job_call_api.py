"""`POST /call/<task>` with `Prefer`, as a job, with a real store and no broker."""

import asyncio
import json
from pathlib import Path

import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPResponse

from crew.errors import ConnectionError
from crew.jobs import Job
from crew.jobs.tuning import JobTuning
from tests.support.jobs_gateway import JobsGateway, jobs_gateway
from tests.support.waiting import until


async def call(gateway: JobsGateway, prefer: str, task: str = "unserved") -> HTTPResponse:
    """Make a call with this `Prefer`."""
    client = AsyncHTTPClient(force_instance=True)
    try:
        return await client.fetch(
            f"http://127.0.0.1:{gateway.site.port}/call/{task}",
            method="POST",
            body=b"",
            headers={"Prefer": prefer},
            raise_error=False,
        )
    finally:
        client.close()


@pytest.mark.gen_test
async def test_an_accepted_job_is_reported_even_if_the_store_becomes_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(id: str, **options: object) -> Job:
        raise ConnectionError("the job store is unavailable")

    async with jobs_gateway(tmp_path, tuning=JobTuning(publish_patience=0.05)) as gateway:  # there is no broker
        calling = asyncio.ensure_future(call(gateway, "wait=1"))
        await until(lambda: gateway.waiters == 1)
        monkeypatch.setattr(gateway.jobs.store, "get", away)
        response = await calling
        assert (response.code, response.headers["Preference-Applied"]) == (202, "wait=1")
        assert response.headers["Location"] == f"/jobs/{json.loads(response.body)['id']}/"


@pytest.mark.gen_test
async def test_an_invalid_http_request_is_bad_data_not_a_bad_task(tmp_path: Path) -> None:
    async with jobs_gateway(tmp_path) as gateway:
        response = await call(gateway, "wait=1", "crew.http")
    assert (response.code, json.loads(response.body)["type"]) == (422, "urn:crew:problem:bad-data")
