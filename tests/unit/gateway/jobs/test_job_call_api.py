"""`POST /call/<task>` as a job, with a real store and no broker: what its client is told of it."""

import asyncio
import json
from pathlib import Path

import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPResponse

from crew.errors import ConnectionError
from crew.jobs import Job, publisher
from tests.support.desk import Desk, desk
from tests.support.waiting import until


async def call(at: Desk, prefer: str, task: str = "nobody") -> HTTPResponse:
    """Make it."""
    client = AsyncHTTPClient(force_instance=True)
    try:
        return await client.fetch(
            f"http://127.0.0.1:{at.web.port}/call/{task}",
            method="POST",
            body=b"",
            headers={"Prefer": prefer},
            raise_error=False,
        )
    finally:
        client.close()


@pytest.mark.gen_test
async def test_a_job_that_was_accepted_is_told_of_although_the_store_goes_away_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "PATIENCE", 0.05)  # there is no broker

    async def away(id: str, **options: object) -> Job:
        raise ConnectionError("the job store is away")

    async with desk(tmp_path) as at:
        calling = asyncio.ensure_future(call(at, "wait=1"))
        await until(lambda: at.waiting == 1)
        monkeypatch.setattr(at.jobs.store, "get", away)
        answer = await calling
        assert (answer.code, answer.headers["Preference-Applied"]) == (202, "wait=1")
        assert answer.headers["Location"] == f"/jobs/{json.loads(answer.body)['id']}/"


@pytest.mark.gen_test
async def test_what_is_no_request_of_http_is_bad_data_and_no_bad_task(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        answer = await call(at, "wait=1", "crew.http")
    assert (answer.code, json.loads(answer.body)["type"]) == (422, "urn:crew:problem:bad-data")
