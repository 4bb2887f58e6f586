"""Request and response of a URL job as JSON, with the members of the HTTP Task Queue (htq)."""

import base64
from typing import Any

import msgspec
import pytest

from crew.jobs.job import Job, JobStatus
from crew.jobs.records import url_job
from crew.jobs.records.record import record
from crew.jobs.specification import specify
from crew.protocol.encoding import codec
from crew.protocol.topology import HTTP_TASK
from tests.support.a_job import a_job

OF_REQUEST = {"uuid", "url", "method", "headers", "data", "timeout", "time", "status"}
OF_RESPONSE = {"status", "time", "code", "reason", "elapsed", "uuid", "headers", "data"}
ANSWER: dict[str, Any] = {
    "code": 404,
    "reason": "Not Found",
    "url": "http://h/end",
    "headers": [["Server", "mine"], ["Via", "a"], ["via", "b"], ["Set-Cookie", "a=1"]],
    "body": "ü",
    "encoding": "text",
    "redirects": 1,
    "elapsed_ms": 12,
}


def submitted(**request: Any) -> Job:
    return specify(HTTP_TASK, {"url": "http://me:hush@h/path?q=1#part", **request}).job


def test_a_record_has_the_request_with_its_defaults() -> None:
    job = submitted()
    shown = record(job, shows_query=True)
    assert shown.keys() >= OF_REQUEST
    assert {name: shown[name] for name in OF_REQUEST} == {
        "uuid": job.id,
        "url": "http://h/path?q=1#part",
        "method": "GET",
        "headers": {},
        "data": None,
        "timeout": 60,
        "time": round(job.created * 1000),
        "status": "queued",
    }
    assert shown["id"] == shown["uuid"]


@pytest.mark.parametrize("method", ["post", "Post", "POST"])
def test_a_record_has_the_members_of_the_request(method: str) -> None:
    shown = record(submitted(method=method, headers={"X-A": "1"}, data={"n": [1]}, timeout=7.5))
    members = tuple(shown[name] for name in ("method", "headers", "data", "timeout"))
    assert members == (
        "POST",
        {"X-A": "1"},
        {"n": [1]},
        7.5,
    )


def test_only_secret_headers_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    headers = {"authorization": "hush", "COOKIE": "hush", "X-Key": "hush", "X-Other": "shown"}
    monkeypatch.setenv("CREW_SECRET_HEADERS", " x-key,x-more ,")
    shown = specify(HTTP_TASK, {"url": "http://h/?token=hush", "headers": headers}).job
    assert record(shown)["headers"] == {"authorization": "...", "COOKIE": "...", "X-Key": "...", "X-Other": "shown"}
    assert "hush" not in str(record(shown))
    assert record(shown, shows_query=True)["url"] == "http://h/?token=hush"
    assert url_job.masked({"Proxy-Authorization": "hush"}) == {"Proxy-Authorization": "..."}
    monkeypatch.delenv("CREW_SECRET_HEADERS")
    assert record(shown)["headers"]["X-Key"] == "hush"


def test_a_job_read_without_its_request_shows_only_the_timeout() -> None:
    shown = record(msgspec.structs.replace(submitted(timeout=0.3), body=None))
    assert [shown[name] for name in ("url", "method", "headers", "data", "timeout")] == [None, None, None, None, 0.3]


def test_a_task_job_has_uuid_and_time_but_no_payload() -> None:
    job = a_job(created=1.2345)
    shown = record(job)
    assert (shown["uuid"], shown["time"]) == (job.id, 1234)
    assert shown.keys() & {"url", "method", "headers", "data"} == set()


def test_a_response_has_the_members_of_htq_beside_its_own() -> None:
    job = a_job(task=HTTP_TASK, status=JobStatus.ERROR, ended=1.5)
    shown = url_job.response(job, ANSWER)
    assert shown.keys() >= OF_RESPONSE
    assert {name: shown[name] for name in OF_RESPONSE} == {
        "status": "error",
        "time": 1500,
        "code": 404,
        "reason": "Not Found",
        "elapsed": 12,
        "uuid": job.id,
        "headers": {"Server": "mine", "Via": "a, b", "Set-Cookie": "a=1"},
        "data": "ü",
    }
    assert shown["header_list"] == ANSWER["headers"]
    assert {name: shown[name] for name in ANSWER if name != "headers"} == {
        name: one for name, one in ANSWER.items() if name != "headers"
    }


def test_a_binary_body_is_in_base64_with_its_encoding() -> None:
    packed = base64.b64encode(b"\xff").decode()
    shown = url_job.response(a_job(task=HTTP_TASK), {**ANSWER, "body": packed, "encoding": "base64"})
    assert (shown["data"], shown["encoding"]) == (packed, "base64")


@pytest.mark.parametrize("value", [None, "text", {}, {"headers": {"a": "b"}}, {"headers": [["a"]]}])
def test_a_value_that_is_not_a_response_is_unchanged(value: Any) -> None:
    assert url_job.response(a_job(task=HTTP_TASK), value) == value


@pytest.mark.parametrize("payload", [None, [1], {"a": 1}, b"\xff"])
def test_a_payload_that_is_not_a_request_is_none_in_the_record(payload: Any) -> None:
    assert record(a_job(task=HTTP_TASK, body=codec.encode(payload)))["url"] is None
