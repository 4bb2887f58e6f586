"""A URL job as its readers see it: with the members that the HTTP Task Queue (htq) gives requests and responses."""

import base64
from typing import Any

import msgspec
import pytest

from crew.jobs import url_job
from crew.jobs.job import Job, JobStatus
from crew.jobs.record import record
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
    told = record(job, shows_query=True)
    assert told.keys() >= OF_REQUEST
    assert {name: told[name] for name in OF_REQUEST} == {
        "uuid": job.id,
        "url": "http://h/path?q=1#part",
        "method": "GET",
        "headers": {},
        "data": None,
        "timeout": 60,
        "time": round(job.created * 1000),
        "status": "queued",
    }
    assert told["id"] == told["uuid"]


@pytest.mark.parametrize("method", ["post", "Post", "POST"])
def test_a_record_has_the_members_of_the_request(method: str) -> None:
    told = record(submitted(method=method, headers={"X-A": "1"}, data={"n": [1]}, timeout=7.5))
    assert (told["method"], told["headers"], told["data"], told["timeout"]) == ("POST", {"X-A": "1"}, {"n": [1]}, 7.5)


def test_only_secret_headers_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    headers = {"authorization": "hush", "COOKIE": "hush", "X-Key": "hush", "X-Other": "shown"}
    monkeypatch.setenv("CREW_SECRET_HEADERS", " x-key,x-more ,")
    told = specify(HTTP_TASK, {"url": "http://h/?token=hush", "headers": headers}).job
    assert record(told)["headers"] == {"authorization": "...", "COOKIE": "...", "X-Key": "...", "X-Other": "shown"}
    assert "hush" not in str(record(told))
    assert record(told, shows_query=True)["url"] == "http://h/?token=hush"
    assert url_job.masked({"Proxy-Authorization": "hush"}) == {"Proxy-Authorization": "..."}
    monkeypatch.delenv("CREW_SECRET_HEADERS")
    assert record(told)["headers"]["X-Key"] == "hush"


def test_a_job_read_without_its_request_shows_only_the_timeout() -> None:
    told = record(msgspec.structs.replace(submitted(timeout=0.3), body=None))
    assert [told[name] for name in ("url", "method", "headers", "data", "timeout")] == [None, None, None, None, 0.3]


def test_a_task_job_has_uuid_and_time_but_no_payload() -> None:
    job = a_job(created=1.2345)
    told = record(job)
    assert (told["uuid"], told["time"]) == (job.id, 1234)
    assert told.keys() & {"url", "method", "headers", "data"} == set()


def test_a_response_has_the_members_of_htq_beside_its_own() -> None:
    job = a_job(task=HTTP_TASK, status=JobStatus.ERROR, ended=1.5)
    told = url_job.response(job, ANSWER)
    assert told.keys() >= OF_RESPONSE
    assert {name: told[name] for name in OF_RESPONSE} == {
        "status": "error",
        "time": 1500,
        "code": 404,
        "reason": "Not Found",
        "elapsed": 12,
        "uuid": job.id,
        "headers": {"Server": "mine", "Via": "a, b", "Set-Cookie": "a=1"},
        "data": "ü",
    }
    assert told["header_list"] == ANSWER["headers"]
    assert {name: told[name] for name in ANSWER if name != "headers"} == {
        name: one for name, one in ANSWER.items() if name != "headers"
    }


def test_a_binary_body_is_in_base64_with_its_encoding() -> None:
    packed = base64.b64encode(b"\xff").decode()
    told = url_job.response(a_job(task=HTTP_TASK), {**ANSWER, "body": packed, "encoding": "base64"})
    assert (told["data"], told["encoding"]) == (packed, "base64")


@pytest.mark.parametrize("value", [None, "text", {}, {"headers": {"a": "b"}}, {"headers": [["a"]]}])
def test_a_value_that_is_no_response_is_unchanged(value: Any) -> None:
    assert url_job.response(a_job(task=HTTP_TASK), value) == value


@pytest.mark.parametrize("payload", [None, [1], {"a": 1}, b"\xff"])
def test_a_payload_that_is_no_request_is_none_in_the_record(payload: Any) -> None:
    assert record(a_job(task=HTTP_TASK, body=codec.encode(payload)))["url"] is None
