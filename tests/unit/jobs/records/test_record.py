"""The record of a job as JSON."""

import base64
import math

import msgspec
import pytest

from crew.jobs.job import JobStatus
from crew.jobs.records.record import full_record, moment, record, value
from crew.protocol import failure
from crew.protocol.encoding import codec
from crew.protocol.failure import Failure
from crew.protocol.message import Body
from crew.protocol.topology import HTTP_TASK
from tests.support.a_job import a_job


def test_instants_are_iso_8601_in_utc_to_the_millisecond() -> None:
    assert moment(1_700_000_000.25) == "2023-11-14T22:13:20.250Z"
    assert moment(None) is None


@pytest.mark.parametrize("at", [1.7e12, -1e12, 2.0**53, math.inf, math.nan])
def test_an_invalid_date_of_a_foreign_worker_is_none_and_affects_no_other_field(at: float) -> None:
    shown = record(a_job(created=0.0, started=at, ended=at))
    assert (shown["started"], shown["created"]) == (None, "1970-01-01T00:00:00.000Z")


def test_a_record_has_everything_but_payload_and_result() -> None:
    job = a_job(created=0.0, started=1.0, ended=2.5, status=JobStatus.SUCCESS, result=codec.encode("secret"))
    shown = record(job)
    assert (shown["id"], shown["kind"], shown["status"], shown["elapsed"]) == (job.id, "task", "success", 1.5)
    assert shown["created"] == "1970-01-01T00:00:00.000Z"
    assert "secret" not in str(shown)
    assert "data" not in shown
    assert record(a_job(task=HTTP_TASK))["kind"] == "http"
    msgspec.json.encode(shown)


def test_a_full_record_has_the_payload() -> None:
    assert full_record(a_job(body=codec.encode({"a": [1]})))["data"] == {"a": [1]}
    assert full_record(a_job(body=None))["data"] is None


def test_a_failure_has_type_message_and_retryable() -> None:
    shown = failure.encode(Failure(type_name="ValueError", message="no", retryable=True))
    assert record(a_job(failure=shown))["error"] == {"type": "ValueError", "message": "no", "retryable": True}
    assert record(a_job())["error"] is None


def test_progress_is_shown_as_sent_unless_it_is_truncated() -> None:
    assert record(a_job(progress=b'{"done":5}'))["progress"] == {"done": 5}
    assert record(a_job(progress=b'{"done'))["progress"] is None


@pytest.mark.parametrize("data", [b"\xff\x00", b""])
def test_bytes_are_shown_in_base64(data: bytes) -> None:
    assert value(codec.encode(data)) == {"base64": base64.b64encode(data).decode()}


def test_a_value_that_cannot_be_decoded_is_shown_in_base64_and_never_unpickled() -> None:
    pickle = b"cos\nsystem\n."
    assert value(Body(pickle, "application/x-python-serialize")) == {"base64": base64.b64encode(pickle).decode()}
    assert value(Body(b"{", codec.JSON)) == {"base64": "ew=="}
