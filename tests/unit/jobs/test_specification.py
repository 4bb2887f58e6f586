"""Every argument of a job is checked before it is recorded; each error names the value and what is allowed."""

import re
import time
import uuid
from typing import Any

import msgspec
import pytest

from crew.errors import SerializationError, TooLarge
from crew.jobs.job import LEASE, JobStatus
from crew.jobs.specification import check_id, retry_of, specify
from crew.protocol.topology import HTTP_TASK

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"priority": 256}, "priority must be an int from 0 to 255, not 256"),
    ({"timeout": -1}, "timeout must be"),
    ({"timeout": 0}, "timeout must be"),
    ({"timeout": float("inf")}, "timeout must be"),
    ({"timeout": "10 parsecs"}, "timeout must be a number of seconds, or text like"),
    ({"expiration": "soon"}, "expiration must be a number of seconds, or text like"),
    ({"result_ttl": -1}, "result_ttl must be"),
    ({"failure_ttl": "x"}, "failure_ttl must be"),
    ({"unique": "maybe"}, "unique must be skip or replace, not 'maybe'"),
    ({"unique_key": "k"}, "unique_key needs unique=skip or replace, but no unique is given"),
    ({"unique": "skip", "unique_key": ""}, "unique_key must have 1 to 255 printable characters, not ''"),
    ({"unique": "skip", "unique_key": 5}, "unique_key must be a string, not int"),
    ({"idempotency_key": "x" * 256}, "idempotency_key must have 1 to 255 printable characters"),
    ({"idempotency_key": "a\nb"}, "idempotency_key must have 1 to 255 printable characters"),
    ({"id": "17"}, "the id of a job must be a uuid, not '17'"),
    ({"id": 17}, "the id of a job must be a uuid, not '17'"),
    ({"serializer": "pickle"}, "pickle"),
    ({"headers": {"a": [1]}}, "header"),
]


@pytest.mark.parametrize(("terms", "message"), WRONG, ids=[str(terms)[:40] for terms, _ in WRONG])
def test_an_invalid_argument_is_an_error_of_one_sentence(terms: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as refused:
        specify("t", **terms)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("task", ["", "a" * 300, 5, None])
def test_a_task_must_have_a_name(task: Any) -> None:
    with pytest.raises(ValueError, match="task"):
        specify(task)


def test_a_payload_that_no_serializer_can_encode_is_refused() -> None:
    with pytest.raises(SerializationError):
        specify("t", object())
    with pytest.raises(TooLarge):
        specify("t", "x" * 100, max_message=50)


@pytest.mark.parametrize(
    ("given", "seconds"), [(90, 90.0), ("90", 90.0), ("15m", 900.0), ("2h", 7200.0), ("1d", 86400.0)]
)
def test_durations_are_seconds_or_text(given: float | str, seconds: float) -> None:
    job = specify("t", timeout=given, expiration=given, result_ttl=given, failure_ttl=given).job
    assert (job.timeout, job.result_ttl, job.failure_ttl) == (seconds, seconds, seconds)
    assert job.start_by == job.created + seconds


def test_arguments_have_defaults() -> None:
    before = time.time()
    job = specify("t").job
    assert (job.timeout, job.start_by, job.result_ttl, job.failure_ttl) == (600.0, None, 86_400.0, 7 * 86_400.0)
    assert (job.priority, job.unique_key, job.idempotency_key, job.wait_for_worker) == (0, None, None, False)
    assert uuid.UUID(job.id).version == 4
    assert before <= job.created <= time.time()
    assert job.publish_at == job.created + LEASE


def test_a_job_without_keys_cannot_conflict() -> None:
    assert specify("t").is_plain
    assert not specify("t", unique="skip").is_plain
    assert not specify("t", id=str(uuid.uuid4())).is_plain
    assert not specify("t", idempotency_key="k").is_plain


def test_a_uuid_is_accepted_in_any_form_and_kept_in_its_canonical_form() -> None:
    id = str(uuid.uuid4())
    assert check_id(id.upper()) == check_id("{" + id + "}") == check_id(id.replace("-", "")) == id


def test_a_unique_key_is_kept_and_by_default_task_and_payload_are_hashed() -> None:
    def key(*arguments: Any, **terms: Any) -> str | None:
        return specify(*arguments, unique="skip", **terms).job.unique_key

    assert key("t", 1, unique_key="k") == "k"
    assert key("t", {"a": 1}) == key("t", {"a": 1}, priority=3)
    assert len({key("t", 1), key("t", 2), key("u", 1), key("t", "1", serializer="text")}) == 4


def test_only_equal_requests_have_the_same_fingerprint() -> None:
    def fingerprint(data: Any = 1, **terms: Any) -> str | None:
        return specify("t", data, idempotency_key="k", **terms).job.fingerprint

    assert fingerprint() == fingerprint()
    assert fingerprint(headers={"a": 1, "b": 2}) == fingerprint(headers={"b": 2, "a": 1})
    others: list[dict[str, Any]] = [
        {"data": 2},
        {"priority": 1},
        {"timeout": 5},
        {"result_ttl": 5},
        {"unique": "skip"},
        {"headers": {"a": 1}},
    ]
    others.append({"data": "1", "serializer": "text"})
    assert len({fingerprint(), *(fingerprint(**terms) for terms in others)}) == len(others) + 1
    assert specify("t").job.fingerprint is None


def test_a_url_job_always_waits_for_a_worker() -> None:
    assert specify(HTTP_TASK, {"url": "http://example.com/"}).job.wait_for_worker
    assert specify("t", wait_for_worker=True).job.wait_for_worker


def test_a_retry_keeps_the_request_and_drops_the_result() -> None:
    terms: dict[str, Any] = {"priority": 7, "timeout": 5, "expiration": 60, "result_ttl": 9, "failure_ttl": 8}
    first = specify(
        "t", {"n": 1}, unique="replace", unique_key="k", wait_for_worker=True, headers={"a": "b"}, **terms
    ).job
    ended = msgspec.structs.replace(first, created=first.created - 1000, start_by=first.created - 940, progress=b"1")

    retry = retry_of(
        msgspec.structs.replace(ended, status=JobStatus.ERROR, attempts=3, host="h:1", idempotency_key="i")
    )

    assert retry.unique == "skip"
    assert retry.job.id != first.id
    assert retry.job.start_by == pytest.approx(time.time() + 60, abs=5)
    own = {name: getattr(first, name) for name in ("id", "created", "start_by", "publish_at", "submit_until")}
    assert msgspec.structs.replace(retry.job, **own) == first


def test_a_url_job_can_be_retried() -> None:
    url = specify(HTTP_TASK, {"url": "http://example.org/"})

    retry = retry_of(url.job)

    assert (retry.unique, retry.job.task, retry.job.body) == (None, HTTP_TASK, url.job.body)


def test_an_error_quotes_the_given_duration_and_no_other_number() -> None:
    with pytest.raises(ValueError, match=r"timeout must be greater than 0 and at most 31622400 seconds, not '367d'$"):
        specify("t", timeout="367d")


@pytest.mark.parametrize("timeout", ["366d", 366 * 86_400])
def test_a_url_job_may_have_the_longest_timeout(timeout: Any) -> None:
    assert specify("crew.http", {"url": "http://h/"}, timeout=timeout).job.timeout == 366 * 86_400


@pytest.mark.parametrize(
    "terms",
    [
        {"priority": "x" * 10**6},
        {"priority": 10**5_000},
        {"timeout": [["x" * 10**6]] * 1_000},
        {"timeout": "9" * 10**6},
        {"unique": "\0" * 10**6},
        {"unique": "skip", "unique_key": "\0" * 10**6},
        {"id": 10**5_000},
        {"id": ["x" * 10**6]},
        {"headers": ["x" * 10**6]},
        {"headers": {"\0" * 10**6: 1}},
        {"headers": {"a": "\ud800" * 10**6}},
        {"serializer": "x" * 10**6},
    ],
    ids=",".join,
)
def test_an_error_quotes_at_most_a_short_part_of_a_value(terms: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"(?s)^.{10,400}$"):
        specify("t", **terms)
