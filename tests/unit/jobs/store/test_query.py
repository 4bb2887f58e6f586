"""Cursors and limits of pages: only the cursor of a page is accepted."""

import base64
import re

import pytest

from crew.jobs.store.query import JobQuery, check_limit
from tests.support.a_job import a_specification, opened


def encoded(text: str) -> str:
    """`text` encoded as a cursor."""
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


ID = "00000000-0000-4000-8000-000000000000"
WRONG = ["", "x", "é", "a b", "=", "AAAA", encoded("1.0"), encoded(f"one {ID}"), encoded("1.0 17")]
WRONG += [encoded(f"nan {ID}"), encoded(f"inf {ID}"), encoded("1.0 a\0b"), encoded("1.0 '; drop table crew_jobs")]


@pytest.mark.parametrize("cursor", WRONG)
@pytest.mark.gen_test
async def test_a_cursor_that_is_not_of_a_page_is_refused(cursor: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    async with opened(tmp_path_factory.mktemp("store")) as store:
        with pytest.raises(ValueError, match=re.escape("cursor must be the cursor of a page of jobs, not ")):
            await store.page(JobQuery(cursor=cursor))


@pytest.mark.parametrize("limit", [0, -1, 501, True, 1.5, "9", None])
def test_a_page_limit_must_be_in_range(limit: object) -> None:
    with pytest.raises(ValueError, match=re.escape(f"limit must be an int from 1 to 500, not {limit!r}")):
        check_limit(limit)


@pytest.mark.gen_test
async def test_a_cursor_leads_to_the_jobs_after_its_page(tmp_path_factory: pytest.TempPathFactory) -> None:
    async with opened(tmp_path_factory.mktemp("store")) as store:
        jobs = [(await store.insert(a_specification())).job for _ in range(3)]
        first = await store.page(JobQuery(limit=2))
        second = await store.page(JobQuery(limit=2, cursor=first.cursor))
        assert [job.id for job in (*first.jobs, *second.jobs)] == [job.id for job in reversed(jobs)]
        assert second.cursor is None
