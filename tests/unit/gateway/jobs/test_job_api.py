"""`/jobs/` and what is below it, with a real store, and the test as the worker that says what becomes of a job."""

import asyncio
import json
from pathlib import Path

import msgspec
import pytest
from tornado.httpclient import HTTPResponse

from crew.jobs import JobStatus
from crew.protocol import failure
from crew.protocol.encoding import codec
from crew.protocol.failure import Failure
from crew.protocol.message import Body
from crew.protocol.topology import HTTP_TASK
from tests.support.desk import Desk, desk
from tests.support.waiting import until

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


# --- what a response says of its job ----------------------------------------------------------------------------------


def failed(type_name: str = "ValueError") -> bytes:
    return failure.encode(Failure(type_name=type_name, message="so it is", traceback="line 7 of the task"))


FAILURES = [
    (JobStatus.ERROR, "ValueError", 500, "task-failed"),
    (JobStatus.ERROR, "WorkerLost", 502, "worker-lost"),
    (JobStatus.TIMEOUT, "TimeoutError", 504, "timeout"),
    (JobStatus.EXPIRED, "ExpirationError", 503, "expired"),
]


def told_of(answer: HTTPResponse) -> tuple[int, str, str]:
    """Status of the answer, its body, and the status of the job."""
    return answer.code, answer.body.decode(), answer.headers["Crew-Job-Status"]


@pytest.mark.gen_test
@pytest.mark.parametrize(("status", "type_name", "code", "name"), FAILURES)
async def test_the_response_of_a_task_that_failed_is_the_problem_that_its_call_would_have_had(
    tmp_path: Path, status: JobStatus, type_name: str, code: int, name: str
) -> None:
    async with desk(tmp_path) as at:
        job = await at.job()
        await at.say(job, status, failure=failed(type_name))
        path = f"/jobs/{job.id}/response/"
        for method in ("GET", "HEAD"):
            answer = await at.ask(method, path)
            assert answer.code == code
            assert answer.headers["Content-Type"] == "application/problem+json"
            assert answer.headers["Crew-Job-Status"] == status
            assert answer.headers["Link"] == f'<{path}>; rel="self", </jobs/{job.id}/>; rel="request"'
        document = json.loads((await at.ask("GET", path)).body)
    assert (document["type"], document["status"]) == (f"urn:crew:problem:{name}", code)
    assert document["title"]
    assert "so it is" in document["detail"]
    assert (document["id"], document["task"]) == (job.id, "t")
    assert "line 7" not in str(document)


@pytest.mark.gen_test
async def test_a_task_that_returned_an_empty_object_is_told_from_one_that_failed(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        job = await at.job()
        path = f"/jobs/{job.id}/response/"
        assert told_of(await at.ask("GET", path, {"Prefer": "wait=0"})) == (202, "{}", "queued")
        await at.say(job, JobStatus.SUCCESS, result=Body(b"{}", "application/json"))
        assert told_of(await at.ask("GET", path)) == (200, "{}", "success")


@pytest.mark.gen_test
async def test_no_header_of_a_task_is_taken_for_the_status_of_its_job(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        job = await at.job()
        result = Body(b"{}", "application/json")
        await at.say(job, JobStatus.SUCCESS, result=result, result_headers={"job-STATUS": "error", "Mine": "1"})
        answer = await at.ask("GET", f"/jobs/{job.id}/response/")
    assert (answer.headers.get_list("Crew-Job-Status"), answer.headers["Crew-Mine"]) == (["success"], "1")


@pytest.mark.gen_test
@pytest.mark.parametrize("status", [JobStatus.ERROR, JobStatus.TIMEOUT, JobStatus.EXPIRED, JobStatus.CANCELED])
async def test_a_url_job_without_a_response_is_an_empty_object_and_says_its_status(
    tmp_path: Path, status: JobStatus
) -> None:
    async with desk(tmp_path) as at:
        job = await at.job(task=HTTP_TASK)
        await at.say(job, status, failure=failed())
        assert told_of(await at.ask("GET", f"/jobs/{job.id}/response/")) == (200, "{}", status.value)


@pytest.mark.gen_test
async def test_a_job_that_was_cancelled_is_an_empty_object_for_good(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        job = await at.job()
        path = f"/jobs/{job.id}/"
        assert (await at.ask("DELETE", path)).code == 204
        assert (await at.ask("DELETE", path)).code == 204
        assert told_of(await at.ask("GET", f"{path}response/")) == (200, "{}", "canceled")
        assert json.loads((await at.ask("GET", path)).body)["error"]["type"] == "Canceled"


@pytest.mark.gen_test
@pytest.mark.parametrize("part", ["", "response/"])
@pytest.mark.parametrize("status", [JobStatus.SUCCESS, JobStatus.ERROR])
async def test_a_response_that_was_deleted_is_an_empty_object_and_the_record_stays(
    tmp_path: Path, part: str, status: JobStatus
) -> None:
    came = {"result": Body(b"7", "application/json")} if status is JobStatus.SUCCESS else {"failure": failed()}
    async with desk(tmp_path) as at:
        job = await at.job()
        await at.say(job, status, **came)
        assert (await at.ask("DELETE", f"/jobs/{job.id}/{part}")).code == 204
        assert told_of(await at.ask("GET", f"/jobs/{job.id}/response/")) == (200, "{}", status.value)
        assert json.loads((await at.ask("GET", f"/jobs/{job.id}/")).body)["status"] == status
        assert (await at.ask("DELETE", f"/jobs/{job.id}/")).code == 204  # as often as one likes


# --- records ----------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_page_of_jobs_links_to_itself_and_to_the_next_one(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        for _ in range(3):
            await at.job()
        first = await at.ask("GET", "/jobs/?limit=2&task=t")
        following = json.loads(first.body)["next"]
        assert first.headers["Link"] == f'</jobs/?task=t&limit=2>; rel="self", <{following}>; rel="next"'
        last = await at.ask("GET", following)
        assert last.headers["Link"] == f'<{following}>; rel="self"'
        assert [len(json.loads(one.body)["jobs"]) for one in (first, last)] == [2, 1]
        assert (await at.ask("GET", "/jobs/")).headers["Link"] == '</jobs/>; rel="self"'


@pytest.mark.gen_test
async def test_a_list_shows_what_url_jobs_ask_for_unless_it_is_large(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        bodies = [codec.encode({"url": "http://h/", "method": "POST", "data": "x" * size}) for size in (10, 100_000)]
        small, large = [await at.job(task=HTTP_TASK, body=body, timeout=65.0) for body in bodies]
        await at.job()
        listed = {job["uuid"]: job for job in json.loads((await at.ask("GET", "/jobs/?status=any")).body)["jobs"]}
        record = json.loads((await at.ask("GET", f"/jobs/{large.id}/")).body)
    assert (listed[small.id]["url"], listed[small.id]["data"]) == ("http://h/", "x" * 10)
    assert (listed[large.id]["url"], listed[large.id]["data"], listed[large.id]["timeout"]) == (None, None, 60)
    assert (record["url"], len(record["data"])) == ("http://h/", 100_000)
    assert len(listed) == 3


@pytest.mark.gen_test
@pytest.mark.parametrize(("settings", "is_shown"), [({}, False), ({"serve_traceback": True}, True)])
async def test_a_record_has_the_traceback_where_the_application_is_debugged(
    tmp_path: Path, settings: dict[str, bool], is_shown: bool
) -> None:
    async with desk(tmp_path) as at:
        at.web.application.settings.update(settings)
        job = await at.job()
        await at.say(job, JobStatus.ERROR, failure=failed())
        one = json.loads((await at.ask("GET", f"/jobs/{job.id}/")).body)
        (listed,) = json.loads((await at.ask("GET", "/jobs/?status=any")).body)["jobs"]
    assert one["error"].get("traceback") == ("line 7 of the task" if is_shown else None)
    assert "traceback" not in listed["error"]
