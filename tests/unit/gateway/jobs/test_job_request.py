"""Members of the body of `POST /jobs/`, by their names and their deprecated names."""

import json
from pathlib import Path
from typing import Any

import pytest

from crew import Client
from crew.gateway.jobs.job_limits import JobLimits
from crew.gateway.jobs.job_request import parse_job
from crew.gateway.problems import RequestRefused
from crew.jobs import Job, JobStore
from crew.limits import GatewayLimits
from crew.protocol.encoding import codec
from tests.support.a_job import url_of
from tests.support.broker import unreachable_url


@pytest.fixture
def limits(tmp_path: Path) -> JobLimits:
    with unreachable_url() as url:
        return JobLimits(Client(url, store=JobStore(url_of(tmp_path))).jobs, GatewayLimits())


def parsed(limits: JobLimits, **members: Any) -> Job:
    return parse_job(json.dumps(members).encode(), limits).job


def value(job: Job) -> Any:
    assert job.body is not None
    return codec.decode(job.body)


@pytest.mark.parametrize("name", ["payload", "data"])
def test_the_payload_of_a_task_has_two_names(limits: JobLimits, name: str) -> None:
    assert value(parsed(limits, task="t", **{name: {"n": 1}})) == {"n": 1}


@pytest.mark.parametrize("name", ["unique_key", "key"])
@pytest.mark.parametrize("about", [{"task": "t"}, {"url": "http://example.org/"}], ids=["task", "url"])
def test_the_unique_key_has_two_names(limits: JobLimits, name: str, about: dict[str, Any]) -> None:
    assert parsed(limits, **about, unique="skip", **{name: "k"}).unique_key == "k"


def test_the_data_of_a_url_job_keep_the_name_that_htq_gave_them(limits: JobLimits) -> None:
    assert value(parsed(limits, url="http://example.org/", data={"n": 1}))["data"] == {"n": 1}
    with pytest.raises(RequestRefused) as refused:
        parsed(limits, url="http://example.org/", payload=1)
    assert refused.value.type == "urn:crew:problem:unknown-member"


def test_durations_are_numbers_or_text(limits: JobLimits) -> None:
    job = parsed(limits, task="t", timeout="1m30s", expiration="2h", result_ttl=5, failure_ttl="500ms")
    assert (job.timeout, job.result_ttl, job.failure_ttl) == (90, 5, 0.5)
    assert job.start_by == pytest.approx(job.created + 7200)


@pytest.mark.parametrize(
    ("members", "name", "detail"),
    [
        ({"payload": 1, "data": 2}, "bad-payload", "data is the deprecated name of payload: send only payload"),
        (
            {"unique": "skip", "unique_key": "a", "key": "b"},
            "bad-unique_key",
            "key is the deprecated name of unique_key: send only unique_key",
        ),
        ({"unique": "skip", "key": 5}, "bad-key", "key must be a string, not int"),
        ({"unique": "skip", "unique_key": 5}, "bad-unique_key", "unique_key must be a string, not int"),
        ({"unique_key": "k"}, "bad-unique", "unique_key needs unique=skip or replace, but no unique is given"),
    ],
)
def test_a_wrong_member_is_named_as_it_was_sent(
    limits: JobLimits, members: dict[str, Any], name: str, detail: str
) -> None:
    with pytest.raises(RequestRefused) as refused:
        parsed(limits, task="t", **members)
    assert refused.value.status_code == 422
    assert refused.value.type == f"urn:crew:problem:{name}"
    assert refused.value.detail == detail
