"""The handle of a job: what it reads of the record, without a broker."""

import time
from pathlib import Path
from typing import Any

import pytest

from crew import Client, errors
from crew.jobs import JobStatus
from crew.jobs.reports.report import Report
from crew.protocol import failure
from crew.protocol.encoding import codec
from crew.protocol.failure import Failure
from crew.protocol.topology import HTTP_TASK
from tests.support.a_job import a_specification, opened
from tests.support.broker import unreachable_url

FAILED = failure.encode(Failure(type_name="LookupError", message="no such row"))
RUNNING: dict[str, Any] = {"status": None, "progress": b'{"at": 3}'}
RETURNED = {"status": JobStatus.SUCCESS, "result": codec.encode(42)}
RAISED = {"status": JobStatus.ERROR, "failure": FAILED}


@pytest.mark.parametrize(
    ("task", "report", "progress", "error"),
    [
        ("t", RUNNING, {"at": 3}, None),
        ("t", RETURNED, None, None),
        ("t", RAISED, None, errors.TaskFailed),
        ("t", {"status": JobStatus.TIMEOUT, "failure": FAILED}, None, errors.TimeoutError),
        (HTTP_TASK, RAISED, None, errors.TaskFailed),
        (HTTP_TASK, {**RAISED, "result": codec.encode({"code": 500})}, None, None),  # this response is a value
    ],
)
@pytest.mark.gen_test
async def test_progress_and_error_are_decoded(
    tmp_path: Path, task: str, report: dict[str, Any], progress: object, error: type[errors.TaskError] | None
) -> None:
    async with opened(tmp_path) as store:
        job = (await store.insert(a_specification(task=task))).job
        await store.apply([Report(id=job.id, at=time.time(), **report)])
        with unreachable_url() as url:
            client = Client(url, store=store)
            handle = client.job(job.id)
            assert await handle.progress() == progress
            found = await handle.error()
            assert type(found) is (error or type(None))
            assert error is None or "no such row" in str(found)
            await client.close()
