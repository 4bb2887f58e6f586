"""Faults of the job store: errors of one line, migrations of its tables, and recovery after an outage."""

import asyncio
import contextlib
import socket
import sqlite3
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from crew import Client, ConnectionError, CrewError, SettingsError
from crew.jobs import JobStore
from crew.jobs.job import JobStatus
from crew.jobs.reports.report import canceled
from crew.jobs.store import database
from crew.jobs.store.query import JobQuery
from crew.jobs.tuning import JobTuning
from crew.protocol.message import Run
from tests.support.postgresql import PASSWORD, Server, ask
from tests.support.proxy import proxying
from tests.support.stores import added, count_by_status, opened, report, succeeded

TERMINATE_ALL = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)
SECRETS = (PASSWORD, "secret", "p%3Aa")


async def refusal(url: str) -> tuple[type[CrewError], str]:
    """The error of opening a store; checks that it is one line without the password."""
    store = JobStore(url)
    with pytest.raises(CrewError) as caught:
        await store.open()
    await store.close()
    message = str(caught.value)
    assert "\n" not in message
    assert not any(secret in message + repr(store) for secret in SECRETS)
    return type(caught.value), message


# --- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_server_that_refuses_the_login_is_a_settings_error(postgresql: Server) -> None:
    kind, message = await refusal(postgresql.url(password="secret"))
    assert kind is SettingsError
    assert message.endswith('cannot be used: password authentication failed for user "crew"')
    kind, message = await refusal(postgresql.url("nowhere"))
    assert kind is SettingsError
    assert message.endswith('cannot be used: database "nowhere" does not exist')


@pytest.mark.gen_test
async def test_a_missing_server_is_a_connection_error(postgresql: Server) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # but not listening
        there = postgresql.url().replace(f":{postgresql.port}/", f":{taken.getsockname()[1]}/")
        kind, message = await refusal(there)
    assert kind is ConnectionError
    assert "cannot be used" in message


@pytest.mark.gen_test
async def test_all_operations_on_a_silent_server_fail_at_the_same_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://u:secret@127.0.0.1:{silent.getsockname()[1]}/x"
        store = JobStore(url, tuning=JobTuning(connect_timeout=0.3))
        loop = asyncio.get_running_loop()
        began = loop.time()
        errors = await asyncio.gather(*(store.page(JobQuery()) for _ in range(20)), return_exceptions=True)
        assert loop.time() - began < 2.0
        assert {type(error) for error in errors} == {ConnectionError}
        assert len(set(map(id, errors))) == 20  # each has its own stack


@pytest.mark.gen_test
async def test_closing_a_store_fails_the_operations_that_wait_for_a_frozen_server(postgresql_url: str) -> None:
    with proxying() as make:
        proxy = make(postgresql_url)
        store = JobStore(proxy.url, tuning=JobTuning(close_timeout=0.3, connect_timeout=1.0))
        job = await added(store)
        proxy.freeze()
        waiting: list[asyncio.Future[Any]] = [asyncio.ensure_future(added(store)) for _ in range(3)]
        waiting.append(asyncio.ensure_future(store.get(job.id)))
        done, _ = await asyncio.wait(waiting, timeout=0.1)
        assert not done
        began = time.monotonic()
        await store.close()
        assert time.monotonic() - began < 5  # one statement may take 60 s
        errors = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(error) for error in errors] == [ConnectionError] * 4


@pytest.mark.gen_test
async def test_closing_a_store_fails_the_operations_that_wait_for_its_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = JobStore(f"postgresql://u:secret@127.0.0.1:{silent.getsockname()[1]}/x")
        waiting = [asyncio.ensure_future(store.open()) for _ in range(2)]
        accepted, _ = await asyncio.to_thread(silent.accept)
        with accepted:
            await store.close()
            errors = await asyncio.gather(*waiting, return_exceptions=True)
        assert [str(error).endswith("was closed") for error in errors] == [True, True]


@pytest.mark.gen_test
async def test_the_url_is_parsed_as_by_psql(postgresql: Server, postgresql_url: str) -> None:
    plain, old = f"{postgresql_url}?sslmode=disable", postgresql_url.replace("postgresql://", "postgres://")
    async with opened(plain, old) as two:
        assert two[0].id == two[1].id
    kind, _ = await refusal(f"{postgresql_url}?sslmode=require&password=secret")  # the server has no TLS
    assert kind is ConnectionError


@pytest.mark.gen_test
async def test_an_invalid_or_read_only_sqlite_file_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "letter").write_text("Dear reader\n" * 500)
    kind, message = await refusal(f"sqlite:///{tmp_path}/letter")
    assert (kind, message) == (
        SettingsError,
        f"the job store sqlite:///{tmp_path}/letter cannot be used: file is not a database",
    )
    async with opened(f"sqlite:///{tmp_path}/jobs.db"):
        pass
    # Like a file without write permission, which root could still write.
    monkeypatch.setattr(database, "_prepare_sqlite", lambda connection, _: connection.execute("PRAGMA query_only=1"))
    with pytest.raises(CrewError, match="attempt to write a readonly database"):
        async with opened(f"sqlite:///{tmp_path}/jobs.db") as [store]:
            await added(store)


# --- versions -------------------------------------------------------------------------------------------------------


COLUMNS = {2: ("progress_run", "progress_count"), 3: ("submitter", "target"), 4: ("submit_until",)}  # of each version


async def turn_into_version(version: int, store: JobStore) -> None:
    """Remove the columns of later versions, so that the tables are as this version created them."""
    async with store._database.write() as connection:
        for column in (one for later in COLUMNS if later > version for one in COLUMNS[later]):
            await connection.execute(text(f"ALTER TABLE crew_jobs DROP COLUMN {column}"))
        await connection.execute(text(f"UPDATE crew_schema SET version = {version}"))


@pytest.mark.gen_test
async def test_two_gateways_can_migrate_an_older_store_at_once_and_its_jobs_are_kept(
    store_url: str,
) -> None:
    async with opened(store_url) as [store]:
        before = [await added(store) for _ in range(3)]
        await store.apply([succeeded(before[0])])
        expected = await store.several([one.id for one in before])
        id = store.id
        await turn_into_version(2, store)
    stores = [JobStore(store_url) for _ in range(2)]
    await asyncio.gather(*(store.open() for store in stores))
    assert [store.id for store in stores] == [id, id]
    assert {one.id: one for one in await stores[1].several([one.id for one in before])} == {
        one.id: one for one in expected
    }
    await added(stores[0])
    for store in stores:
        await store.close()


@pytest.mark.gen_test
async def test_gateways_that_create_the_tables_at_the_same_time_share_one_store(store_url: str) -> None:
    stores = [JobStore(store_url) for _ in range(4)]
    await asyncio.gather(*(store.open() for store in stores))
    assert len({store.id for store in stores}) == 1
    for store in stores:
        await added(store)
    assert await count_by_status(stores[0]) == {JobStatus.QUEUED: 4}
    for store in stores:
        await store.close()


@pytest.mark.gen_test
async def test_a_store_of_a_newer_crew_is_refused(store_url: str) -> None:
    async with opened(store_url) as [store], store._database.write() as connection:
        await connection.execute(text("ALTER TABLE crew_jobs ADD COLUMN weight INTEGER"))
        await connection.execute(text("UPDATE crew_schema SET version = 5"))
    kind, message = await refusal(store_url)
    assert kind is SettingsError
    assert message == (
        "the job store has version 5, made by a newer crew; this crew supports 4: upgrade crew, or use another database"
    )


@pytest.mark.gen_test
async def test_a_store_of_version_1_gets_the_columns_of_later_versions_and_keeps_its_jobs(store_url: str) -> None:
    async with opened(store_url) as [store]:
        jobs = [await added(store) for _ in range(3)]
        await turn_into_version(1, store)
    async with opened(store_url) as [store]:
        run = Run(host="host:7", started=time.time(), progress_count=2)
        await store.apply([report(jobs[0], None, run=run, progress=b"2")])
        progress = [(one.progress, one.progress_count) for one in [await store.get(job.id) for job in jobs]]
        assert progress == [(b"2", 2), (None, None), (None, None)]


VERSION_3 = """
CREATE TABLE crew_schema (version INTEGER NOT NULL, store VARCHAR(32) NOT NULL);
INSERT INTO crew_schema VALUES (3, 'abcdef0123456789');
CREATE TABLE crew_jobs (
    id VARCHAR(36) NOT NULL PRIMARY KEY, task VARCHAR(255) NOT NULL, status VARCHAR(8) NOT NULL,
    priority INTEGER NOT NULL, timeout FLOAT, start_by FLOAT, result_ttl FLOAT NOT NULL, failure_ttl FLOAT NOT NULL,
    unique_key VARCHAR(255), idempotency_key VARCHAR(255), fingerprint VARCHAR(64), wait_for_worker BOOLEAN NOT NULL,
    origin VARCHAR(255), created FLOAT NOT NULL, enqueued FLOAT, started FLOAT, ended FLOAT, seen FLOAT,
    attempts INTEGER NOT NULL, host VARCHAR(255), publish_at FLOAT, is_given_up BOOLEAN NOT NULL, purge_at FLOAT,
    version INTEGER NOT NULL, headers TEXT NOT NULL, result_headers TEXT NOT NULL, progress {bytes},
    progress_run VARCHAR(320), progress_count INTEGER, failure {bytes}, body {bytes}, body_type VARCHAR(255),
    body_encoding VARCHAR(32), result {bytes}, result_type VARCHAR(255), result_encoding VARCHAR(32),
    submitter VARCHAR(255), target VARCHAR(255)
);
INSERT INTO crew_jobs (
    id, task, status, priority, result_ttl, failure_ttl, wait_for_worker, created, attempts, publish_at, is_given_up,
    version, headers, result_headers
) VALUES (
    'b9d9ff0e-0000-4000-8000-000000000001', 'resize', 'queued', 7, 60, 60, FALSE, 1790000000.25, 0, 1790000010.25,
    FALSE, 1, '{{}}', '{{}}'
);
"""


@pytest.mark.gen_test
async def test_a_store_of_version_3_gets_the_column_for_submits_and_its_jobs_count_as_accepted(store_url: str) -> None:
    empty = JobStore(store_url)
    engine = empty._database._make_engine()
    async with engine.begin() as connection:
        kind = "BYTEA" if connection.dialect.name == "postgresql" else "BLOB"
        for statement in VERSION_3.format(bytes=kind).strip().removesuffix(";").split(";\n"):
            await connection.execute(text(statement))
    await engine.dispose()
    async with opened(store_url) as [store]:
        assert store.id == "abcdef0123456789"
        old = await store.get("b9d9ff0e-0000-4000-8000-000000000001")
        assert (old.priority, old.created, old.publish_at) == (7, 1_790_000_000.25, 1_790_000_010.25)
        assert old.submit_until is None
        new = await added(store, publish_at=2.0e9, submit_until=2.0e9)
        assert (await store.get(new.id)).submit_until == 2.0e9
        await store.mark_enqueued(new.id, 1.0)
        assert (await store.get(new.id)).submit_until is None


# --- outages --------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test(timeout=60)
async def test_the_store_reconnects_to_a_restarted_server_and_no_job_is_lost(own_postgresql: Server) -> None:
    async with opened(own_postgresql.make_database()) as [store]:
        await asyncio.gather(*(store.page(JobQuery()) for _ in range(10)))  # all connections of the pool are open
        jobs = [await added(store) for _ in range(20)]
        own_postgresql.kill()
        for attempt in (store.get(jobs[0].id), store.apply([succeeded(jobs[0])]), added(store)):
            with pytest.raises(ConnectionError, match="the job store postgresql://crew:"):
                await attempt
        own_postgresql.start()

        assert (await store.apply([succeeded(jobs[0])]))[0].was is JobStatus.QUEUED
        assert {one.id for one in await store.several([one.id for one in jobs])} == {one.id for one in jobs}
        assert await count_by_status(store) == {JobStatus.SUCCESS: 1, JobStatus.QUEUED: 19}


@pytest.mark.gen_test(timeout=60)
async def test_the_first_operation_after_all_connections_were_terminated_succeeds(postgresql_url: str) -> None:
    async with opened(postgresql_url) as [store]:
        job, other = await added(store), await added(store)
        uses: list[Callable[[], Awaitable[object]]] = [
            lambda: added(store),
            lambda: store.get(job.id),
            lambda: store.page(JobQuery()),
            lambda: store.apply([succeeded(job)]),
            lambda: store.apply([canceled(other.id, at=time.time(), message="enough")]),
            lambda: store.claim(time.time(), until=time.time() + 9, most=5),
        ]
        for use in uses:
            await asyncio.gather(*(store.page(JobQuery()) for _ in range(10)))  # all connections of the pool are open
            ask(postgresql_url, TERMINATE_ALL)
            await use()
        assert store.availability.error is None
        assert await count_by_status(store) == {JobStatus.QUEUED: 1, JobStatus.SUCCESS: 1, JobStatus.CANCELED: 1}


@pytest.mark.gen_test(timeout=60)
async def test_submit_status_list_and_cancel_succeed_after_all_connections_were_terminated(
    postgresql_url: str, broker_url: str
) -> None:
    async with Client(broker_url, store=JobStore(postgresql_url)) as client:
        task = f"unserved.{uuid.uuid4().hex}"
        await client.submit(task, wait_for_worker=True)
        for _ in range(3):
            ask(postgresql_url, TERMINATE_ALL)
            job = await client.submit(task, wait_for_worker=True)
            ask(postgresql_url, TERMINATE_ALL)
            assert await job.status() is JobStatus.QUEUED
            ask(postgresql_url, TERMINATE_ALL)
            assert job.id in {one.id for one in (await client.jobs.page(JobQuery())).jobs}
            ask(postgresql_url, TERMINATE_ALL)
            assert await job.cancel()


@pytest.mark.gen_test(timeout=60)
async def test_writes_wait_for_another_process_that_locks_the_file(tmp_path: Path) -> None:
    async with opened(f"sqlite:///{tmp_path}/jobs.db") as [store]:
        job = await added(store)
        with contextlib.closing(sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            writing = [asyncio.ensure_future(added(store)), asyncio.ensure_future(store.apply([succeeded(job)]))]
            assert (await store.get(job.id)).status is JobStatus.QUEUED, "reads do not wait for the lock"
            done, _ = await asyncio.wait(writing, timeout=0.3)
            assert not done
            other.execute("COMMIT")
            await asyncio.gather(*writing)
        assert (await store.get(job.id)).status is JobStatus.SUCCESS
