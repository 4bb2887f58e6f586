"""`GET /jobs/<uuid>/events` with a real store; the test reports as the worker does."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from tornado.httpclient import HTTPResponse

from crew.errors import ConnectionError
from crew.gateway.jobs import job_events
from crew.jobs import Job, JobStatus
from crew.jobs.reports.report import Report
from crew.jobs.tuning import JobTuning
from crew.protocol.message import Body
from tests.support.event_stream import AS_STREAM
from tests.support.jobs_gateway import jobs_gateway
from tests.support.site import logged
from tests.support.waiting import until

UNKNOWN_ID = "00000000-0000-0000-0000-000000000000"


def problem(response: HTTPResponse) -> tuple[int, str]:
    assert response.headers["Content-Type"] == "application/problem+json"
    document = json.loads(response.body)
    assert document["detail"]
    return response.code, document["type"].removeprefix("urn:crew:problem:")


# --- the stream -----------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_stream_sends_the_current_state_each_change_and_ends_with_the_job(
    tmp_path: Path,
) -> None:
    async with jobs_gateway(tmp_path) as gateway:
        job = await gateway.add_job()
        stream = await gateway.open_stream(job)
        status, headers = await stream.head()
        assert (status, headers["content-type"]) == (200, "text/event-stream")
        assert (headers["cache-control"], headers["x-accel-buffering"]) == ("no-store", "no")
        assert await stream.event() == ("1", "status", {"status": "queued", "version": 1, "attempts": 0})
        assert stream.retry == job_events.RETRY

        await gateway.report(job, JobStatus.STARTED)
        assert await stream.event() == ("2", "status", {"status": "started", "version": 2, "attempts": 1})
        await gateway.report_progress(job, {"at": "ü\n"})
        started = {"status": "started", "version": 3, "attempts": 1, "progress": {"at": "ü\n"}}
        assert await stream.event() == ("3", "progress", started)
        await gateway.report(job, JobStatus.SUCCESS, result=Body(b'"secret"', "application/json"))
        end = {**started, "status": "success", "version": 4, "response": f"/jobs/{job.id}/response/"}
        assert await stream.event() == ("4", "status", end)
        assert await stream.event() is None
        assert gateway.waiters == 0


@pytest.mark.gen_test
async def test_the_last_event_of_a_job_without_a_value_has_the_reason(tmp_path: Path) -> None:
    async with jobs_gateway(tmp_path) as gateway:
        job = await gateway.add_job()
        stream = await gateway.started_stream(job)
        await stream.event()
        assert await gateway.jobs.cancel(job.id)
        ((_, _, end),) = await stream.rest()
        assert end["status"] == "canceled"
        assert end["error"] == {"type": "Canceled", "message": "the job was canceled", "retryable": False}


@pytest.mark.gen_test
async def test_a_heartbeat_is_no_event_and_another_attempt_is_one(tmp_path: Path) -> None:
    async with jobs_gateway(tmp_path) as gateway:
        job = await gateway.add_job()
        await gateway.report(job, JobStatus.STARTED)
        stream = await gateway.started_stream(job)
        await stream.event()
        await gateway.report(job, JobStatus.STARTED)
        await gateway.report(job, JobStatus.STARTED, attempt=2)
        again = await stream.event()
        await gateway.report(job, JobStatus.SUCCESS)
        events = [
            (kind, data["status"], data["attempts"]) for _, kind, data in filter(None, [again, await stream.event()])
        ]
        assert events == [("progress", "started", 2), ("status", "success", 2)]
        assert await stream.event() is None


@pytest.mark.gen_test
async def test_a_reconnecting_client_gets_only_newer_events(tmp_path: Path) -> None:
    async with jobs_gateway(tmp_path) as gateway:
        job = await gateway.add_job()
        await gateway.report(job, JobStatus.STARTED)
        for headers, query in (({"Last-Event-ID": "2"}, ""), ({}, "?after=2"), ({"Last-Event-ID": "2"}, "?after=1")):
            stream = await gateway.started_stream(job, query, {**AS_STREAM, **headers})
            await until(lambda: gateway.waiters == 1)
            stream.disconnect()
            await until(lambda: gateway.waiters == 0)
        stream = await gateway.started_stream(job, headers={**AS_STREAM, "Last-Event-ID": "2"})
        await gateway.report_progress(job, 0.5)
        assert await stream.event() == (
            "3",
            "progress",
            {"status": "started", "version": 3, "attempts": 1, "progress": 0.5},
        )
        stream.disconnect()
        behind = await gateway.started_stream(job, headers={**AS_STREAM, "Last-Event-ID": "1"})
        event = await behind.event()
        assert event is not None
        assert event[:2] == ("3", "status")


@pytest.mark.gen_test
async def test_a_client_that_has_the_last_event_gets_204(tmp_path: Path) -> None:
    async with jobs_gateway(tmp_path) as gateway:
        job = await gateway.add_job()
        await gateway.report(job, JobStatus.SUCCESS)
        (event,) = await (await gateway.started_stream(job)).rest()
        response = await gateway.get_events(job, headers={**AS_STREAM, "Last-Event-ID": event[0]})
        assert (response.code, response.body) == (204, b"")


@pytest.mark.gen_test
async def test_a_client_ahead_of_a_restored_store_still_gets_the_last_event(tmp_path: Path) -> None:
    async with jobs_gateway(tmp_path) as gateway:
        job = await gateway.add_job()
        stream = await gateway.started_stream(job, headers={**AS_STREAM, "Last-Event-ID": "50"})
        await until(lambda: gateway.waiters == 1)
        await gateway.report(job, JobStatus.SUCCESS, result=Body(b"1", "application/json"))
        event = await stream.event()
        assert event is not None
        assert event[2]["status"] == "success"
        again = await gateway.get_events(job, headers={**AS_STREAM, "Last-Event-ID": "50"})
        assert b'"status":"success"' in again.body
        assert (await gateway.get_events(job, headers={**AS_STREAM, "Last-Event-ID": "2"})).code == 204


@pytest.mark.gen_test
async def test_an_idle_stream_sends_keepalives_and_ends_after_its_wait(tmp_path: Path) -> None:
    async with jobs_gateway(tmp_path, keepalive=0.02) as gateway:
        stream = await gateway.started_stream(await gateway.add_job(), "?wait=0.2")
        began = time.monotonic()
        assert len(await stream.rest()) == 1
        assert 0.1 < time.monotonic() - began < 2
        assert 1 <= stream.comments <= 11  # ten, if the machine is idle


@pytest.mark.gen_test
async def test_nothing_waits_for_a_disconnected_client(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with jobs_gateway(tmp_path) as gateway:
        job = await gateway.add_job()
        streams = [await gateway.started_stream(job) for _ in range(10)]
        polls = [await gateway.open_stream(job, "?after=1&wait=60", {}) for _ in range(10)]
        await until(lambda: gateway.waiters == 20)
        for stream in streams + polls:
            stream.disconnect()
        await until(lambda: gateway.waiters == 0)
        assert not [line for level, line in logged(caplog) if level != "INFO"]


@pytest.mark.gen_test
async def test_a_long_poll_ends_when_draining_begins_and_a_stream_when_the_gateway_stops(tmp_path: Path) -> None:
    async with jobs_gateway(tmp_path) as gateway:
        job = await gateway.add_job()
        stream = await gateway.started_stream(job)
        await stream.event()
        poll = asyncio.ensure_future(gateway.get_events(job, "?after=1&wait=60"))
        await until(lambda: gateway.waiters == 2)
        gateway.jobs.leave()
        assert json.loads((await poll).body)["status"] == "queued"
        await gateway.report_progress(job, 1)
        assert await stream.event()
        await gateway.jobs.close()
        assert await stream.rest() == []


@pytest.mark.gen_test
async def test_a_stream_survives_an_outage_of_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with jobs_gateway(tmp_path, store_retry=0.01) as gateway:
        job = await gateway.add_job()
        stream = await gateway.started_stream(job)
        await stream.event()
        get, asked = gateway.jobs.store.get, []

        async def away(id: str, **options: Any) -> Job:
            asked.append(id)
            raise ConnectionError("the job store is unavailable")

        await until(lambda: gateway.waiters == 1)
        monkeypatch.setattr(gateway.jobs.store, "get", away)
        await gateway.report(job, JobStatus.STARTED)
        await until(lambda: len(asked) > 2)
        monkeypatch.setattr(gateway.jobs.store, "get", get)
        event = await stream.event()
        assert event is not None
        assert event[2]["status"] == "started"


@pytest.mark.gen_test
async def test_a_change_without_a_notification_is_found_by_polling(tmp_path: Path) -> None:
    async with jobs_gateway(tmp_path, tuning=JobTuning(poll_interval=0.02)) as gateway:
        job = await gateway.add_job()
        stream = await gateway.started_stream(job)
        await stream.event()
        await gateway.jobs.store.apply([Report(id=job.id, status=None, at=time.time(), progress=b"1")])
        event = await stream.event()
        assert event is not None
        assert event[1:] == ("progress", {"status": "queued", "version": 2, "attempts": 0, "progress": 1})


# --- the long poll --------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_long_poll_is_answered_as_soon_as_there_is_a_newer_version(tmp_path: Path) -> None:
    async with jobs_gateway(tmp_path) as gateway:
        job = await gateway.add_job()
        queued = {"status": "queued", "version": 1, "attempts": 0}
        for query in ("?after=0", "?wait=60", "?after=1&wait=0", "?after=1&wait=0.05s"):
            response = await gateway.get_events(job, query)
            assert (response.code, json.loads(response.body)) == (200, queued), query
            assert (response.headers["Content-Type"], response.headers["Cache-Control"]) == (
                "application/json",
                "no-store",
            )
        poll = asyncio.ensure_future(gateway.get_events(job, "?after=1&wait=60"))
        await until(lambda: gateway.waiters == 1)
        await gateway.report_progress(job, [1])
        assert json.loads((await poll).body) == {**queued, "version": 2, "progress": [1]}


@pytest.mark.gen_test
async def test_a_long_poll_for_an_ended_job_is_answered_at_once(tmp_path: Path) -> None:
    async with jobs_gateway(tmp_path) as gateway:
        job = await gateway.add_job()
        await gateway.report(job, JobStatus.SUCCESS)
        for after in (0, 2, 99):
            response = await gateway.get_events(job, f"?after={after}&wait=60")
            assert json.loads(response.body)["status"] == "success"


@pytest.mark.gen_test
async def test_the_accept_header_chooses_between_stream_and_long_poll(tmp_path: Path) -> None:
    async with jobs_gateway(tmp_path) as gateway:
        job = await gateway.add_job()
        await gateway.report(job, JobStatus.SUCCESS)
        stream, poll = "text/event-stream", "application/json"
        for accept, query, type in (
            (None, "", stream),
            ("*/*", "", stream),
            ("text/html, */*;q=0.8", "", stream),
            ("application/json", "", poll),
            ("*/*", "?after=0", poll),
            ("Text/Event-Stream; q=1", "?after=0", stream),
        ):
            response = await gateway.get_events(job, query, {} if accept is None else {"Accept": accept})
            assert (response.code, response.headers["Content-Type"]) == (200, type), (accept, query)


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("id", "query", "headers", "expected"),
    [
        ("none", "", AS_STREAM, (400, "bad-id")),
        (UNKNOWN_ID, "", AS_STREAM, (404, "unknown-job")),
        (UNKNOWN_ID, "?after=0&wait=1", {}, (404, "unknown-job")),
        (UNKNOWN_ID, "?after=0&wait=0", {}, (404, "unknown-job")),
        (UNKNOWN_ID, "?after=x", {}, (400, "bad-after")),
        (UNKNOWN_ID, "?after=", {}, (400, "bad-after")),
        (UNKNOWN_ID, "?after=-1", AS_STREAM, (400, "bad-after")),
        (UNKNOWN_ID, "?wait=soon", {}, (400, "bad-wait")),
        (UNKNOWN_ID, "?wait=-1", {}, (400, "bad-wait")),
        (UNKNOWN_ID, "?wait=1e9", AS_STREAM, (400, "bad-wait")),
        (UNKNOWN_ID, "?wait=999d", {}, (400, "bad-wait")),
        (UNKNOWN_ID, "", {**AS_STREAM, "Last-Event-ID": "x"}, (400, "bad-last-event-id")),
        (UNKNOWN_ID, "", {**AS_STREAM, "Last-Event-ID": "9" * 19}, (400, "bad-last-event-id")),
    ],
)
async def test_invalid_parameters_are_refused(
    tmp_path: Path, id: str, query: str, headers: dict[str, str], expected: tuple[int, str]
) -> None:
    async with jobs_gateway(tmp_path) as gateway:
        assert problem(await gateway.get_events(id, query, headers)) == expected
