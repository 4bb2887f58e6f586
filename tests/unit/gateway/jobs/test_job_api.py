"""`/jobs/` and the paths below it, with a real store; the test reports as the worker does."""

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
from tests.support.jobs_gateway import JobsGateway, jobs_gateway
from tests.support.waiting import until

COMMON_HEADERS = ("Content-Type", "Content-Length", "Etag", "Link", "Vary")
PARTS = ("", "status/", "response/")


async def head_and_get(gateway: JobsGateway, path: str) -> None:
    """Check that HEAD and GET differ only in the body."""
    head, get = await gateway.request("HEAD", path), await gateway.request("GET", path)
    assert (head.code, head.body) == (200, b"")
    assert get.body
    assert [head.headers.get(name) for name in COMMON_HEADERS] == [get.headers.get(name) for name in COMMON_HEADERS]


@pytest.mark.gen_test
async def test_head_is_get_without_the_body(tmp_path: Path) -> None:
    async with jobs_gateway(tmp_path) as gateway:
        job = await gateway.add_job()
        await gateway.report(job, JobStatus.SUCCESS, result=Body(b'"value"', "application/json"))
        for path in ("/jobs/?status=any", "/openapi.json", *(f"/jobs/{job.id}/{part}" for part in PARTS)):
            await head_and_get(gateway, path)


@pytest.mark.gen_test
async def test_head_of_a_response_waits_as_get_does(tmp_path: Path) -> None:
    async with jobs_gateway(tmp_path) as gateway:
        job = await gateway.add_job()
        path = f"/jobs/{job.id}/response/"
        assert (await gateway.request("HEAD", path, {"Prefer": "wait=0"})).code == 202
        request = asyncio.ensure_future(gateway.request("HEAD", path))
        await until(lambda: gateway.waiters == 1)
        await gateway.report(job, JobStatus.SUCCESS, result=Body(b'"value"', "application/json"))
        response = await request
    assert (response.code, response.headers["Content-Length"]) == (200, "7")


@pytest.mark.gen_test
@pytest.mark.parametrize("method", ["HEAD", "POST"])
async def test_the_events_of_a_job_support_get_only(tmp_path: Path, method: str) -> None:
    async with jobs_gateway(tmp_path) as gateway:
        response = await gateway.request(method, f"/jobs/{(await gateway.add_job()).id}/events")
    assert (response.code, response.headers["Allow"]) == (405, "GET")


@pytest.mark.gen_test
async def test_the_response_varies_by_prefer_for_caches(tmp_path: Path) -> None:
    """RFC 7240, section 2: with and without the header."""
    async with jobs_gateway(tmp_path) as gateway:
        job = await gateway.add_job()
        responses = [await gateway.request("GET", f"/jobs/{job.id}/response/", {"Prefer": "wait=0"})]
        await gateway.report(job, JobStatus.SUCCESS)
        responses += [await gateway.request("GET", f"/jobs/{job.id}/response/")]
    assert [(response.code, response.headers["Vary"]) for response in responses] == [(202, "Prefer"), (200, "Prefer")]


@pytest.mark.gen_test
@pytest.mark.parametrize("path", ["/jobs/%ff/", "/jobs/%ff/status/", "/jobs/?status=%ff", "/call/%ff"])
async def test_an_argument_that_is_not_utf_8_is_refused_in_one_sentence(tmp_path: Path, path: str) -> None:
    async with jobs_gateway(tmp_path) as gateway:
        response = await gateway.request("POST" if path.startswith("/call") else "GET", path)
    document = json.loads(response.body)
    assert (response.code, document["type"]) == (400, "urn:crew:problem:bad-encoding")
    assert document["detail"].endswith("must be UTF-8, percent-encoded")


@pytest.mark.gen_test
async def test_a_messagepack_value_is_returned_as_messagepack(tmp_path: Path) -> None:
    value = msgspec.msgpack.encode({"bytes": b"\xff"})
    async with jobs_gateway(tmp_path) as gateway:
        job = await gateway.add_job()
        await gateway.report(job, JobStatus.SUCCESS, result=Body(value, "application/msgpack"))
        response = await gateway.request("GET", f"/jobs/{job.id}/response/")
    assert (response.headers["Content-Type"], response.body) == ("application/msgpack", value)


# --- responses of jobs ------------------------------------------------------------------------------------------------


def failed(type_name: str = "ValueError") -> bytes:
    return failure.encode(Failure(type_name=type_name, message="so it is", traceback="line 7 of the task"))


FAILURES = [
    (JobStatus.ERROR, "ValueError", 500, "task-failed"),
    (JobStatus.ERROR, "WorkerLost", 502, "worker-lost"),
    (JobStatus.TIMEOUT, "TimeoutError", 504, "timeout"),
    (JobStatus.EXPIRED, "ExpirationError", 503, "expired"),
]


def outcome(response: HTTPResponse) -> tuple[int, str, str]:
    """Status of the response, its body, and the status of the job."""
    return response.code, response.body.decode(), response.headers["Crew-Job-Status"]


@pytest.mark.gen_test
@pytest.mark.parametrize(("status", "type_name", "code", "name"), FAILURES)
async def test_the_response_of_a_failed_job_is_the_problem_document_of_the_same_call(
    tmp_path: Path, status: JobStatus, type_name: str, code: int, name: str
) -> None:
    async with jobs_gateway(tmp_path) as gateway:
        job = await gateway.add_job()
        await gateway.report(job, status, failure=failed(type_name))
        path = f"/jobs/{job.id}/response/"
        for method in ("GET", "HEAD"):
            response = await gateway.request(method, path)
            assert response.code == code
            assert response.headers["Content-Type"] == "application/problem+json"
            assert response.headers["Crew-Job-Status"] == status
            assert response.headers["Link"] == f'<{path}>; rel="self", </jobs/{job.id}/>; rel="request"'
        document = json.loads((await gateway.request("GET", path)).body)
    assert (document["type"], document["status"]) == (f"urn:crew:problem:{name}", code)
    assert document["title"]
    assert "so it is" in document["detail"]
    assert (document["id"], document["task"]) == (job.id, "t")
    assert "line 7" not in str(document)


@pytest.mark.gen_test
async def test_an_empty_object_as_value_is_distinguished_by_the_job_status(tmp_path: Path) -> None:
    async with jobs_gateway(tmp_path) as gateway:
        job = await gateway.add_job()
        path = f"/jobs/{job.id}/response/"
        assert outcome(await gateway.request("GET", path, {"Prefer": "wait=0"})) == (202, "{}", "queued")
        await gateway.report(job, JobStatus.SUCCESS, result=Body(b"{}", "application/json"))
        assert outcome(await gateway.request("GET", path)) == (200, "{}", "success")


@pytest.mark.gen_test
async def test_a_task_cannot_set_the_job_status_header(tmp_path: Path) -> None:
    async with jobs_gateway(tmp_path) as gateway:
        job = await gateway.add_job()
        result = Body(b"{}", "application/json")
        await gateway.report(job, JobStatus.SUCCESS, result=result, result_headers={"job-STATUS": "error", "Mine": "1"})
        response = await gateway.request("GET", f"/jobs/{job.id}/response/")
    assert (response.headers.get_list("Crew-Job-Status"), response.headers["Crew-Mine"]) == (["success"], "1")


@pytest.mark.gen_test
@pytest.mark.parametrize("status", [JobStatus.ERROR, JobStatus.TIMEOUT, JobStatus.EXPIRED, JobStatus.CANCELED])
async def test_a_url_job_without_a_response_is_an_empty_object_with_its_status(
    tmp_path: Path, status: JobStatus
) -> None:
    async with jobs_gateway(tmp_path) as gateway:
        job = await gateway.add_job(task=HTTP_TASK)
        await gateway.report(job, status, failure=failed())
        assert outcome(await gateway.request("GET", f"/jobs/{job.id}/response/")) == (200, "{}", status.value)


@pytest.mark.gen_test
async def test_a_canceled_job_is_an_empty_object(tmp_path: Path) -> None:
    async with jobs_gateway(tmp_path) as gateway:
        job = await gateway.add_job()
        path = f"/jobs/{job.id}/"
        assert (await gateway.request("DELETE", path)).code == 204
        assert (await gateway.request("DELETE", path)).code == 204
        assert outcome(await gateway.request("GET", f"{path}response/")) == (200, "{}", "canceled")
        assert json.loads((await gateway.request("GET", path)).body)["error"]["type"] == "Canceled"


@pytest.mark.gen_test
@pytest.mark.parametrize("part", ["", "response/"])
@pytest.mark.parametrize("status", [JobStatus.SUCCESS, JobStatus.ERROR])
async def test_a_deleted_response_is_an_empty_object_and_the_record_stays(
    tmp_path: Path, part: str, status: JobStatus
) -> None:
    came = {"result": Body(b"7", "application/json")} if status is JobStatus.SUCCESS else {"failure": failed()}
    async with jobs_gateway(tmp_path) as gateway:
        job = await gateway.add_job()
        await gateway.report(job, status, **came)
        assert (await gateway.request("DELETE", f"/jobs/{job.id}/{part}")).code == 204
        assert outcome(await gateway.request("GET", f"/jobs/{job.id}/response/")) == (200, "{}", status.value)
        assert json.loads((await gateway.request("GET", f"/jobs/{job.id}/")).body)["status"] == status
        assert (await gateway.request("DELETE", f"/jobs/{job.id}/")).code == 204  # a repeated DELETE is no error


# --- records ----------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_page_of_jobs_links_to_itself_and_to_the_next_page(tmp_path: Path) -> None:
    async with jobs_gateway(tmp_path) as gateway:
        for _ in range(3):
            await gateway.add_job()
        first = await gateway.request("GET", "/jobs/?limit=2&task=t")
        following = json.loads(first.body)["next"]
        assert first.headers["Link"] == f'</jobs/?task=t&limit=2>; rel="self", <{following}>; rel="next"'
        last = await gateway.request("GET", following)
        assert last.headers["Link"] == f'<{following}>; rel="self"'
        assert [len(json.loads(one.body)["jobs"]) for one in (first, last)] == [2, 1]
        assert (await gateway.request("GET", "/jobs/")).headers["Link"] == '</jobs/>; rel="self"'


@pytest.mark.gen_test
async def test_a_list_shows_the_requests_of_url_jobs_unless_they_are_large(tmp_path: Path) -> None:
    async with jobs_gateway(tmp_path) as gateway:
        bodies = [codec.encode({"url": "http://h/", "method": "POST", "data": "x" * size}) for size in (10, 100_000)]
        small, large = [await gateway.add_job(task=HTTP_TASK, body=body, timeout=65.0) for body in bodies]
        await gateway.add_job()
        listed = {
            job["uuid"]: job for job in json.loads((await gateway.request("GET", "/jobs/?status=any")).body)["jobs"]
        }
        record = json.loads((await gateway.request("GET", f"/jobs/{large.id}/")).body)
    assert (listed[small.id]["url"], listed[small.id]["data"]) == ("http://h/", "x" * 10)
    assert (listed[large.id]["url"], listed[large.id]["data"], listed[large.id]["timeout"]) == (None, None, 60)
    assert (record["url"], len(record["data"])) == ("http://h/", 100_000)
    assert len(listed) == 3


@pytest.mark.gen_test
@pytest.mark.parametrize(("settings", "is_shown"), [({}, False), ({"serve_traceback": True}, True)])
async def test_a_record_has_the_traceback_in_debug_mode_only(
    tmp_path: Path, settings: dict[str, bool], is_shown: bool
) -> None:
    async with jobs_gateway(tmp_path) as gateway:
        gateway.site.application.settings.update(settings)
        job = await gateway.add_job()
        await gateway.report(job, JobStatus.ERROR, failure=failed())
        one = json.loads((await gateway.request("GET", f"/jobs/{job.id}/")).body)
        (listed,) = json.loads((await gateway.request("GET", "/jobs/?status=any")).body)["jobs"]
    assert one["error"].get("traceback") == ("line 7 of the task" if is_shown else None)
    assert "traceback" not in listed["error"]
