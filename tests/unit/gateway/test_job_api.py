"""`/jobs/` and what is below it, with a real store, and the test as the worker that says what becomes of a job."""

import asyncio
import json
from pathlib import Path

import msgspec
import pytest

from crew.jobs import JobStatus
from crew.protocol.message import Body
from tests.unit.gateway.desk import Desk, desk
from tests.waiting import until

SAID_BY_BOTH = ("Content-Type", "Content-Length", "Etag", "Link", "Vary")
PARTS = ("", "status/", "response/")


async def head_and_get(at: Desk, path: str) -> None:
    """They differ in the body alone."""
    head, get = await at.ask("HEAD", path), await at.ask("GET", path)
    assert (head.code, head.body) == (200, b"")
    assert get.body
    assert [head.headers.get(name) for name in SAID_BY_BOTH] == [get.headers.get(name) for name in SAID_BY_BOTH]


@pytest.mark.gen_test
async def test_whatever_can_be_read_has_a_head_that_is_the_get_without_its_body(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        job = await at.job()
        await at.say(job, JobStatus.SUCCESS, result=Body(b'"value"', "application/json"))
        for path in ("/jobs/?status=any", "/openapi.json", *(f"/jobs/{job.id}/{part}" for part in PARTS)):
            await head_and_get(at, path)


@pytest.mark.gen_test
async def test_the_head_of_a_response_waits_as_its_get_does(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        job = await at.job()
        path = f"/jobs/{job.id}/response/"
        assert (await at.ask("HEAD", path, {"Prefer": "wait=0"})).code == 202
        asking = asyncio.ensure_future(at.ask("HEAD", path))
        await until(lambda: at.waiting == 1)
        await at.say(job, JobStatus.SUCCESS, result=Body(b'"value"', "application/json"))
        answer = await asking
    assert (answer.code, answer.headers["Content-Length"]) == (200, "7")


@pytest.mark.gen_test
@pytest.mark.parametrize("method", ["HEAD", "POST"])
async def test_the_events_of_a_job_have_a_get_only_and_say_so(tmp_path: Path, method: str) -> None:
    async with desk(tmp_path) as at:
        answer = await at.ask(method, f"/jobs/{(await at.job()).id}/events")
    assert (answer.code, answer.headers["Allow"]) == (405, "GET")


@pytest.mark.gen_test
async def test_a_cache_is_told_that_a_response_depends_on_how_long_its_client_would_wait(tmp_path: Path) -> None:
    """RFC 7240, 2: whether this client has said so, or not."""
    async with desk(tmp_path) as at:
        job = await at.job()
        answers = [await at.ask("GET", f"/jobs/{job.id}/response/", {"Prefer": "wait=0"})]
        await at.say(job, JobStatus.SUCCESS)
        answers += [await at.ask("GET", f"/jobs/{job.id}/response/")]
    assert [(answer.code, answer.headers["Vary"]) for answer in answers] == [(202, "Prefer"), (200, "Prefer")]


@pytest.mark.gen_test
@pytest.mark.parametrize("path", ["/jobs/%ff/", "/jobs/%ff/status/", "/jobs/?status=%ff", "/call/%ff"])
async def test_what_is_no_utf_8_is_refused_in_one_sentence(tmp_path: Path, path: str) -> None:
    async with desk(tmp_path) as at:
        answer = await at.ask("POST" if path.startswith("/call") else "GET", path)
    document = json.loads(answer.body)
    assert (answer.code, document["type"]) == (400, "urn:crew:problem:bad-encoding")
    assert document["detail"].endswith("must be UTF-8, percent-encoded")


@pytest.mark.gen_test
async def test_a_value_that_came_as_messagepack_is_answered_in_it_as_a_call_would(tmp_path: Path) -> None:
    value = msgspec.msgpack.encode({"bytes": b"\xff"})
    async with desk(tmp_path) as at:
        job = await at.job()
        await at.say(job, JobStatus.SUCCESS, result=Body(value, "application/msgpack"))
        answer = await at.ask("GET", f"/jobs/{job.id}/response/")
    assert (answer.headers["Content-Type"], answer.body) == ("application/msgpack", value)
