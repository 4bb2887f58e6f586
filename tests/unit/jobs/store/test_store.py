"""The store on SQLite: jobs are inserted, read, claimed and deleted."""

import asyncio
import contextlib
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import PIPE
from typing import Any

import msgspec
import pytest

from crew.errors import ConnectionError, DuplicateCallId, KeyReused, SettingsError, UnknownJob
from crew.jobs import JobStore
from crew.jobs.job import Job, JobStatus
from crew.jobs.reports import report
from crew.jobs.reports.report import Report
from crew.jobs.store.query import JobQuery
from crew.jobs.store.schema import STEPS
from crew.protocol.encoding import codec
from crew.protocol.message import Outcome, Reply, Run
from tests.support.a_job import HOST, NOW, a_job, a_specification, opened
from tests.support.stores import count_by_status
from tests.support.waiting import until

ALL = JobQuery(statuses=None)


def returned(job: Job, value: object = 1, *, at: float = NOW) -> Report:
    """The report that the task returned `value`."""
    reply = Reply(id=job.id, outcome=Outcome.RETURNED, body=codec.encode(value), run=Run(host=HOST, started=at))
    return report.of_reply(reply, at=at, max_result=1_000_000)


def canceled(job: Job) -> Report:
    """The report that the job was canceled."""
    return report.ended(job.id, JobStatus.CANCELED, at=NOW, type_name="C", message="", may_be_queued=True)


async def driver_has_ended() -> None:
    """Wait until the thread of a failed connection has called the event loop, which must still run."""
    await until(lambda: not any("_connection_worker" in thread.name for thread in threading.enumerate()))


@pytest.mark.gen_test
async def test_a_job_is_read_as_it_was_inserted(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        specification = a_specification(
            headers={"a": "ä\0"}, priority=3, timeout=0.5, origin="::1", body=codec.encode(b"\0")
        )
        inserted = await store.insert(specification)
        assert inserted.is_new
        assert await store.get(specification.job.id) == specification.job
        assert (await store.get(specification.job.id, with_bodies=False)).body is None


@pytest.mark.gen_test
async def test_records_and_the_id_of_the_store_survive_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        job = (await store.insert(a_specification())).job
        id = store.id
    async with opened(tmp_path) as again:
        assert (await again.get(job.id), again.id) == (job, id)
    (tmp_path / "other").mkdir()
    async with opened(tmp_path / "other") as other:
        assert other.queue != again.queue


@pytest.mark.gen_test
async def test_a_missing_job_is_unknown(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        with pytest.raises(UnknownJob, match="there is no job 17"):
            await store.get("17")
        (settled,) = await store.apply([returned(a_job())])
        assert settled.job is None
        assert settled.is_late


# --- keys ------------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_skip_returns_the_active_job_and_a_new_one_after_its_end(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        first = await store.insert(a_specification(unique="skip", unique_key="k"))
        second = await store.insert(a_specification(unique="skip", unique_key="k"))
        assert (second.job.id, second.is_new) == (first.job.id, False)
        await store.apply([returned(first.job)])
        assert (await store.insert(a_specification(unique="skip", unique_key="k"))).is_new


@pytest.mark.gen_test
async def test_replace_cancels_the_active_job(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        first = await store.insert(a_specification(unique="replace", unique_key="k"))
        second = await store.insert(a_specification(unique="replace", unique_key="k"))
        assert second.is_new
        assert [job.id for job in second.replaced] == [first.job.id]
        given_up = await store.get(first.job.id)
        assert (given_up.status, given_up.is_given_up) == (JobStatus.CANCELED, True)
        assert await store.revoked(["t"], 10) == [first.job.id]


@pytest.mark.parametrize("unique", ["skip", "replace"])
@pytest.mark.gen_test
async def test_of_many_concurrent_jobs_with_one_key_one_is_active(unique: str, tmp_path: Path) -> None:
    async with opened(tmp_path) as one, opened(tmp_path) as other:
        stores = [one, other] * 10
        inserted = await asyncio.gather(
            *(store.insert(a_specification(unique=unique, unique_key="k")) for store in stores)
        )
        active = (await one.page(JobQuery(statuses=(JobStatus.QUEUED, JobStatus.STARTED)))).jobs
        assert len(active) == 1
        assert sum(one.is_new for one in inserted) == (1 if unique == "skip" else len(stores))


@pytest.mark.gen_test
async def test_an_idempotency_key_is_one_job_also_for_two_concurrent_gateways(tmp_path: Path) -> None:
    async with opened(tmp_path) as one, opened(tmp_path) as other:
        keys: dict[str, Any] = {"idempotency_key": "k", "fingerprint": "f"}
        inserted = await asyncio.gather(*(store.insert(a_specification(**keys)) for store in [one, other] * 10))
        assert len({one.job.id for one in inserted}) == 1
        assert sum(one.is_new for one in inserted) == 1
        await one.apply([returned(inserted[0].job)])
        again = await other.insert(a_specification(**keys))
        assert (again.job.status, again.is_new) == (JobStatus.SUCCESS, False)


@pytest.mark.gen_test
async def test_a_repeated_skipped_submit_returns_the_same_job_also_after_its_end(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        active = (await store.insert(a_specification(unique="skip", unique_key="k"))).job
        for _ in range(2):
            asked = a_specification(unique="skip", unique_key="k", idempotency_key="again", fingerprint="f")
            inserted = await store.insert(asked)
            assert (inserted.job.id, inserted.is_new) == (active.id, False)
            await store.apply([returned(active)])
        other = await store.insert(
            a_specification(unique="skip", unique_key="k", idempotency_key="other", fingerprint="f")
        )
        assert other.is_new
        with pytest.raises(KeyReused):
            await store.insert(a_specification(idempotency_key="again", fingerprint="g"))


@pytest.mark.gen_test
async def test_an_idempotency_key_of_another_request_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.insert(a_specification(idempotency_key="k", fingerprint="f"))
        with pytest.raises(KeyReused, match="the Idempotency-Key 'k' was used for another request"):
            await store.insert(a_specification(idempotency_key="k", fingerprint="g"))


@pytest.mark.gen_test
async def test_a_taken_id_is_refused_and_the_other_jobs_are_inserted(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        taken = (await store.insert(a_specification())).job
        again = a_specification(id=taken.id, may_exist=True)
        results = await asyncio.gather(store.insert(a_specification()), store.insert(again), return_exceptions=True)
        assert not isinstance(results[0], BaseException)
        assert isinstance(results[1], DuplicateCallId)
        assert str(results[1]) == f"a job with the id {taken.id} exists: choose another id"


# --- changes of jobs -------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_of_two_concurrent_results_one_is_kept(tmp_path: Path) -> None:
    async with opened(tmp_path) as one, opened(tmp_path) as other:
        job = (await one.insert(a_specification())).job
        results = await asyncio.gather(one.apply([returned(job, 1)]), other.apply([returned(job, 2)]))
        assert sorted(settled.is_late for (settled,) in results) == [False, True]


@pytest.mark.gen_test
async def test_reports_of_one_job_in_one_batch_are_applied_in_order(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        job = (await store.insert(a_specification())).job
        settled = await store.apply([returned(job, 1), returned(job, 2), canceled(job)])
        assert [one.is_late for one in settled] == [False, True, True]
        kept = await store.get(job.id)
        assert kept.result == codec.encode(1)
        assert kept.version == 2


@pytest.mark.gen_test
async def test_progress_that_another_gateway_records_after_the_end_leaves_the_result(tmp_path: Path) -> None:
    async with opened(tmp_path) as one, opened(tmp_path) as other:
        job = (await one.insert(a_specification())).job
        first, last = (
            Report(id=job.id, at=NOW, status=None, progress=b"%d" % count, run=Run(host=HOST, progress_count=count))
            for count in (1, 2)
        )
        end = Report(id=job.id, at=NOW, status=JobStatus.SUCCESS, result=codec.encode(7), run=Run(host=HOST))
        await one.apply([first])
        await one.apply([end])
        (late,) = await other.apply([last])
        assert not late.is_late
        kept = await other.get(job.id)
        assert (kept.status, kept.result, kept.progress) == (JobStatus.SUCCESS, codec.encode(7), b"2")


@pytest.mark.gen_test
async def test_a_result_is_deleted_once_and_its_record_stays(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        job = (await store.insert(a_specification())).job
        assert not await store.delete_result(job.id)
        await store.apply([returned(job)])
        assert await store.delete_result(job.id)
        assert not await store.delete_result(job.id)
        kept = await store.get(job.id)
        assert (kept.status, kept.result, kept.failure) == (JobStatus.SUCCESS, None, None)


@pytest.mark.gen_test
async def test_a_job_is_claimed_by_one_gateway_and_again_after_its_lease_has_ended(tmp_path: Path) -> None:
    async with opened(tmp_path) as one, opened(tmp_path) as other:
        for _ in range(20):
            await one.insert(a_specification(publish_at=NOW))
        claims = await asyncio.gather(*(store.claim(NOW + 1, until=NOW + 11, most=8) for store in [one, other] * 2))
        claimed = [job.id for claim in claims for job in claim]
        assert sorted(map(len, claims)) == [0, 4, 8, 8]
        assert len(set(claimed)) == 20
        assert all(job.body is not None for claim in claims for job in claim)
        assert await one.claim(NOW + 10, until=NOW + 20, most=50) == []
        assert len(await other.claim(NOW + 11, until=NOW + 20, most=50)) == 20


@pytest.mark.gen_test
async def test_a_published_or_ended_job_is_not_claimed(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        taken, ended, late = [(await store.insert(a_specification(publish_at=NOW))).job for _ in range(3)]
        await store.mark_enqueued(taken.id, NOW + 1)
        await store.apply([canceled(ended)])
        await store.postpone(late.id, NOW + 50)
        assert await store.claim(NOW + 49, until=NOW + 60, most=50) == []
        assert (await store.get(taken.id)).enqueued == NOW + 1
        await store.postpone(taken.id, NOW)
        assert [job.id for job in await store.claim(NOW + 51, until=NOW + 60, most=50)] == [late.id]


@pytest.mark.gen_test
async def test_a_job_that_waits_for_a_worker_is_due_when_one_starts(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as store:
        waits = (await store.insert(a_specification(publish_at=NOW + 5, wait_for_worker=True))).job
        for publish_at, may_wait in ((NOW + 10, True), (NOW + 5, False), (None, True)):
            await store.insert(a_specification(publish_at=publish_at, wait_for_worker=may_wait))
        assert await store.make_due(["u"], NOW, before=NOW + 5) == 0
        assert await store.make_due(["t", "u"], NOW, before=NOW + 5) == 1
        assert [job.id for job in await store.claim(NOW, until=NOW + 10, most=9)] == [waits.id]


@pytest.mark.gen_test
async def test_a_queued_job_is_overdue_after_its_expiration_and_a_started_job_is_not(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        waits, runs, _ = [(await store.insert(a_specification(start_by=by))).job for by in (NOW, NOW, NOW + 9)]
        run = Run(host=HOST, started=NOW, is_only_one=True)
        started = Reply(id=runs.id, outcome=Outcome.STARTED, body=codec.encode(None), run=run)
        await store.apply([report.of_reply(started, at=NOW, max_result=1)])
        assert await store.overdue(NOW + 1, 10) == [waits.id]
        assert await store.without_report(NOW + 1, 10) == [runs.id]
        assert await store.without_report(NOW - 1, 10) == []


@pytest.mark.gen_test
async def test_records_are_purged_after_their_time_to_live(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        short, long, active = [(await store.insert(a_specification(result_ttl=ttl))).job for ttl in (5.0, 50.0, 5.0)]
        await store.apply([returned(short), returned(long)])
        assert await store.purge(NOW + 4) == 0
        assert await store.purge(NOW + 5) == 1
        assert {job.id for job in (await store.page(ALL)).jobs} == {long.id, active.id}
        assert await store.purge(NOW + 5) == 0


@pytest.mark.gen_test
async def test_a_job_that_the_broker_refused_is_deleted(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        refused = await store.insert(a_specification())
        assert await store.withdraw(refused) == ()
        with pytest.raises(UnknownJob):
            await store.get(refused.job.id)


@pytest.mark.gen_test
async def test_a_replaced_job_is_restored_if_its_replacement_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        first = (await store.insert(a_specification(unique="skip", unique_key="k"))).job
        await store.mark_enqueued(first.id, NOW)
        before = await store.get(first.id)
        assert await store.withdraw(await store.insert(a_specification(unique="replace", unique_key="k"))) == ()
        assert await store.get(first.id) == msgspec.structs.replace(before, version=before.version + 2)
        assert await store.revoked(["t"], 10) == []
        assert (await store.apply([returned(first)]))[0].was is JobStatus.QUEUED


@pytest.mark.gen_test
async def test_a_replaced_job_that_has_ended_or_whose_key_is_taken_is_not_restored(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        ended = (await store.insert(a_specification(unique="skip", unique_key="k"))).job
        refused = await store.insert(a_specification(unique="replace", unique_key="k"))
        await store.apply([returned(ended)])
        assert [job.id for job in await store.withdraw(refused)] == [ended.id]
        assert (await store.get(ended.id)).status is JobStatus.CANCELED

        older = (await store.insert(a_specification(unique="skip", unique_key="k"))).job
        refused = await store.insert(a_specification(unique="replace", unique_key="k"))
        newest = (await store.insert(a_specification(unique="replace", unique_key="k"))).job
        assert [job.id for job in await store.withdraw(refused)] == [older.id]
        assert (await store.get(newest.id)).status is JobStatus.QUEUED


# --- lists -----------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_pages_repeat_and_omit_no_job_while_jobs_are_inserted(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        same = a_job().created  # jobs created at the same time are ordered by their ids
        there = {(await store.insert(a_specification(created=same + n // 4))).job.id for n in range(25)}
        seen: list[str] = []
        query: JobQuery | None = JobQuery(limit=4)
        while query is not None:
            page = await store.page(query)
            seen += [job.id for job in page.jobs]
            await store.insert(a_specification(created=same + 100))
            query = msgspec.structs.replace(query, cursor=page.cursor) if page.cursor else None
        assert len(seen) == 25
        assert set(seen) == there


@pytest.mark.gen_test
async def test_jobs_are_listed_by_status_and_task_and_counted(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        ended = (await store.insert(a_specification())).job
        other = (await store.insert(a_specification(task="u"))).job
        await store.apply([returned(ended)])
        assert [job.id for job in (await store.page(JobQuery())).jobs] == [other.id]
        assert [job.id for job in (await store.page(JobQuery(statuses=(JobStatus.SUCCESS,)))).jobs] == [ended.id]
        assert (await store.page(JobQuery(statuses=None, task="nobody"))).jobs == ()
        assert await count_by_status(store) == {JobStatus.QUEUED: 1, JobStatus.SUCCESS: 1}
        assert {job.id for job in await store.several([ended.id, other.id, "17"])} == {ended.id, other.id}


# --- databases that cannot be used -----------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_file_that_is_not_a_database_is_refused_and_unchanged(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("some notes, " * 100)
    store = JobStore(f"sqlite:///{file}")
    with pytest.raises(
        SettingsError, match=r"^the job store sqlite.*notes.txt cannot be used: file is not a database$"
    ):
        await store.open()
    assert file.read_text() == "some notes, " * 100
    await driver_has_ended()


@pytest.mark.gen_test
async def test_tables_of_a_newer_crew_are_refused_and_unchanged(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.insert(a_specification())
    with sqlite3.connect(tmp_path / "jobs.db") as connection:
        connection.execute("update crew_schema set version = 99")
    connection.close()
    with pytest.raises(SettingsError, match=f"version 99, made by a newer crew; this crew supports {len(STEPS)}"):
        await JobStore(f"sqlite:///{tmp_path}/jobs.db").open()
    await driver_has_ended()


@pytest.mark.gen_test
async def test_the_error_for_a_folder_that_cannot_be_created_says_what_is_needed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = JobStore(f"sqlite:///{tmp_path}/file/jobs.db")
    with pytest.raises(SettingsError, match=r"cannot be used: it must be a file in an existing folder, and both"):
        await store.get("17")


@pytest.mark.parametrize("file", [".", "notes.txt"])
def test_an_event_loop_that_ends_with_a_store_error_leaves_no_failing_thread(tmp_path: Path, file: str) -> None:
    """The driver's threads would fail to call a closed event loop, and print a traceback."""
    (tmp_path / "notes.txt").write_text("some notes")
    for _ in range(20):
        with pytest.raises(SettingsError):
            asyncio.run(JobStore(f"sqlite:///{tmp_path}/{file}").open())
    assert not [thread.name for thread in threading.enumerate() if "connection_worker" in thread.name]


@pytest.mark.gen_test
async def test_the_error_for_an_unavailable_server_hides_the_password() -> None:
    store = JobStore("postgresql://crew:s3cret@127.0.0.1:1/jobs")
    with pytest.raises(ConnectionError) as away:
        await store.get("17")
    assert "s3cret" not in f"{away.value} {away.value!r} {store!r}"
    assert str(away.value).count("cannot be used") == 1
    assert "127.0.0.1" in str(away.value)
    assert "\n" not in str(away.value)


NO_FILE = "the job store needs a file, like sqlite:///.crew/jobs.db: memory is lost with the process"
NO_OPTIONS = "the job store sqlite:// takes a path only: remove the question mark and what follows it"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://u:s3cret@h/n", "the job store is a sqlite:// or a postgresql:// database, not mysql://"),
        ("s3cret", "the URL of the job store must look like sqlite:///.crew/jobs.db or postgresql://user@host/name"),
        ("sqlite://", "the job store needs a file, like sqlite:///.crew/jobs.db: memory is lost with the process"),
        (
            "sqlite:///:memory:",
            "the job store needs a file, like sqlite:///.crew/jobs.db: memory is lost with the process",
        ),
        ("sqlite:///jobs.db?timeout=x", NO_OPTIONS),
        ("sqlite:///file:jobs.db?mode=rw&uri=true", NO_OPTIONS),
    ],
)
def test_an_invalid_store_url_is_a_settings_error(url: str, message: str) -> None:
    with pytest.raises(SettingsError) as refused:
        JobStore(url)
    assert str(refused.value) == message


@pytest.mark.parametrize("password", ["s3/cret", "s3?cret", "s3?a=cret", "s3#cret", "s3[cret", "s3@cret", "s3@/cret"])
def test_a_password_that_needs_percent_encoding_is_refused_and_not_shown(password: str) -> None:
    """A parser would take the rest of it as a host, a port or a path, and show it in its error."""
    with pytest.raises(SettingsError) as refused:
        JobStore(f"postgresql://crew:{password}@127.0.0.1:1/jobs")
    assert str(refused.value) == (
        "in the URL of the job store, percent-encode special characters in the user name and password: %40 for @"
    )


@pytest.mark.parametrize("query", ["s3cret", "host=127.0.0.1&port=s3cret"])
@pytest.mark.gen_test
async def test_a_url_that_the_driver_cannot_parse_is_a_settings_error_without_secrets(query: str) -> None:
    with pytest.raises(SettingsError) as refused:
        await JobStore(f"postgresql:///jobs?{query}").open()
    assert (
        str(refused.value)
        == "the job store postgresql:///jobs cannot be used: its driver cannot read its URL; check CREW_DATABASE"
    )


@pytest.mark.gen_test
async def test_a_missing_folder_is_created(tmp_path: Path) -> None:
    store = JobStore(f"sqlite:///{tmp_path}/a/b/jobs.db")
    await store.open()
    await store.close()
    assert (tmp_path / "a" / "b" / "jobs.db").exists()


@pytest.mark.gen_test
async def test_many_gateways_may_open_a_new_store_at_once(tmp_path: Path) -> None:
    stores = [JobStore(f"sqlite:///{tmp_path}/jobs.db") for _ in range(5)]
    await asyncio.gather(*(store.open() for store in stores))
    assert len({store.id for store in stores}) == 1
    await asyncio.gather(*(store.close() for store in stores))


# What another process does with a file after a crash: it reads the file, has marked the index of the write-ahead log
# as unusable, and holds the locks of a writer, a checkpoint and a recovery (https://www.sqlite.org/walformat.html).
RECOVERING = """
import fcntl, sys
with open(sys.argv[1], "rb") as file, open(sys.argv[1] + "-shm", "r+b") as index:
    fcntl.lockf(file, fcntl.LOCK_SH, 510, 0x40000002)
    fcntl.lockf(index, fcntl.LOCK_SH, 1, 128)
    fcntl.lockf(index, fcntl.LOCK_EX, 3, 120)
    index.write(bytes(96))
    index.flush()
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def recovered(tmp_path: Path) -> Iterator[tuple[Path, Callable[[], None]]]:
    """A store after a crash, which another process recovers until the test stops it."""
    file, crashed = tmp_path / "jobs.db", tmp_path / "crashed.db"
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE other (id)")
        for end in ("", "-wal", "-shm"):  # copied while open, as after a crash
            shutil.copy(f"{file}{end}", f"{crashed}{end}")
    other = subprocess.Popen([sys.executable, "-Sc", RECOVERING, crashed], stdin=PIPE, stdout=PIPE)
    with other as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        yield crashed, process.stdin.close


@pytest.mark.gen_test
async def test_opening_waits_for_another_process_that_recovers_the_file(
    recovered: tuple[Path, Callable[[], None]],
) -> None:
    file, stop = recovered
    store = JobStore(f"sqlite:///{file}")
    opening = asyncio.ensure_future(store.open())
    await asyncio.wait([opening], timeout=0.2)
    assert not opening.done()
    stop()
    await opening
    await store.close()
