"""A job as `crew jobs` prints it."""

from collections.abc import Callable

import pytest

from crew.cli.jobs_text import all_as_json, as_json, as_line, as_page
from crew.jobs import Job
from crew.jobs.order import order
from crew.protocol.topology import HTTP_TASK

LOGIN = {"url": "http://me:hush@example.com/reports?token=hush", "headers": {"X-Report": "hush"}}
REQUEST = {"url": "http://example.com/reports", "headers": {"Authorization": "Bearer hush"}, "data": {"n": 1}}


@pytest.mark.parametrize("request_", [LOGIN, REQUEST])
@pytest.mark.parametrize("text", [as_line, as_json, all_as_json, as_page])
def test_the_secrets_of_a_url_job_are_not_printed(text: Callable[[Job], str], request_: dict[str, object]) -> None:
    told = text(order(HTTP_TASK, request_).job)

    assert "hush" not in told
    assert "crew.http" in told


def test_a_page_shows_what_a_url_job_asks_for() -> None:
    page = as_page(order(HTTP_TASK, REQUEST).job)

    assert "example.com/reports" in page
    assert '"Authorization": "..."' in page
    assert '"n": 1' in page
