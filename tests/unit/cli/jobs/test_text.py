"""Jobs as text, as `crew jobs` prints them."""

import json
from collections.abc import Callable

import msgspec
import pytest

from crew.cli.jobs.text import all_as_json, as_json, as_line, as_page
from crew.jobs import Job, JobStatus
from crew.jobs.specification import specify
from crew.protocol import failure
from crew.protocol.encoding import codec
from crew.protocol.failure import Failure
from crew.protocol.topology import HTTP_TASK
from tests.support.a_job import a_job

LOGIN = {"url": "http://me:hush@example.com/reports?token=hush", "headers": {"X-Report": "hush"}}
REQUEST = {"url": "http://example.com/reports", "headers": {"Authorization": "Bearer hush"}, "data": {"n": 1}}


@pytest.mark.parametrize("request_", [LOGIN, REQUEST])
@pytest.mark.parametrize("text", [as_line, as_json, all_as_json, as_page])
def test_the_secrets_of_a_url_job_are_not_printed(
    text: Callable[[Job], str], request_: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREW_SECRET_HEADERS", "X-Token, X-Report")
    shown = text(specify(HTTP_TASK, request_).job)

    assert "hush" not in shown
    assert "crew.http" in shown


def test_a_page_shows_the_request_of_a_url_job() -> None:
    page = as_page(specify(HTTP_TASK, REQUEST).job)

    assert "example.com/reports" in page
    assert '"Authorization": "..."' in page
    assert '"n": 1' in page


def test_a_page_shows_the_response_of_a_url_job_without_cookies() -> None:
    answer = {
        "code": 200,
        "headers": [["Server", "mine"], ["Set-Cookie", "hush"]],
        "body": "text",
        "encoding": "text",
        "elapsed_ms": 7,
    }
    job = msgspec.structs.replace(specify(HTTP_TASK, REQUEST).job, result=codec.encode(answer), ended=1.0)
    for text in (as_page(job), all_as_json(job)):
        assert '"Server": "mine"' in text
        assert '"Set-Cookie": "..."' in text
        assert "hush" not in text


def test_a_page_shows_the_traceback_of_a_failed_task() -> None:
    error = failure.encode(Failure(type_name="ValueError", message="no", traceback="Traceback:\n  line 7\x1b[2J\n"))
    job = a_job(status=JobStatus.ERROR, failure=error)

    assert "error        ValueError: no\ntraceback\nTraceback:\n  line 7\\x1b[2J\n" in as_page(job)
    assert json.loads(all_as_json(job))["error"]["traceback"] == "Traceback:\n  line 7\x1b[2J\n"
    assert "line 7" not in as_json(job)
    assert "line 7" not in as_line(job)
