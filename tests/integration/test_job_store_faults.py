"""A job store that cannot be used fails with one sentence; after an outage it is used again."""

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
from sqlalchemy import Column, Connection, Integer, text

from crew import Client, ConnectionError, CrewError, SettingsError
from crew.jobs import JobStore
from crew.jobs.job import JobStatus
from crew.jobs.reports.report import canceled
from crew.jobs.store import database, schema
from crew.jobs.store.query import JobQuery
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
    told = str(caught.value)
    assert "\n" not in told
    assert not any(secret in told + repr(store) for secret in SECRETS)
    return type(caught.value), told


# --- what cannot be used --------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_server_that_refuses_the_login_is_a_settings_error(postgresql: Server) -> None:
    kind, told = await refusal(postgresql.url(password="secret"))
    assert kind is SettingsError
    assert told.endswith('cannot be used: password authentication failed for user "crew"')
    kind, told = await refusal(postgresql.url("nowhere"))
    assert kind is SettingsError
    assert told.endswith('cannot be used: database "nowhere" does not exist')


@pytest.mark.gen_test
async def test_a_missing_server_is_a_connection_error(postgresql: Server) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        there = postgresql.url().replace(f":{postgresql.port}/", f":{taken.getsockname()[1]}/")
        kind, told = await refusal(there)
    assert kind is ConnectionError
    assert "cannot be used" in told


@pytest.mark.gen_test
async def test_all_callers_of_a_silent_server_fail_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crew.jobs.store.database.CONNECT_WITHIN", 0.3)  # seconds, instead of 10
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = JobStore(f"postgresql://u:secret@127.0.0.1:{silent.getsockname()[1]}/x")
        loop = asyncio.get_running_loop()
        began = loop.time()
        told = await asyncio.gather(*(store.page(JobQuery()) for _ in range(20)), return_exceptions=True)
        assert loop.time() - began < 2.0
        assert {type(one) for one in told} == {ConnectionError}
        assert len(set(map(id, told))) == 20  # each has the stack of its own


@pytest.mark.gen_test
async def test_closing_a_store_with_a_frozen_server_ends_all_its_callers(
    monkeypatch: pytest.MonkeyPatch, postgresql_url: str
) -> None:
    monkeypatch.setattr("crew.jobs.store.store.CLOSE_WITHIN", 0.3)  # seconds, instead of 5
    monkeypatch.setattr("crew.jobs.store.database.CONNECT_WITHIN", 1.0)  # seconds, instead of 10
    with proxying() as make:
        proxy = make(postgresql_url)
        store = JobStore(proxy.url)
        job = await added(store)
        proxy.freeze()
        waiting: list[asyncio.Future[Any]] = [asyncio.ensure_future(added(store)) for _ in range(3)]
        waiting.append(asyncio.ensure_future(store.get(job.id)))
        done, _ = await asyncio.wait(waiting, timeout=0.1)
        assert not done
        began = time.monotonic()
        await store.close()
        assert time.monotonic() - began < 5  # of the 60 s that one statement has
        told = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(one) for one in told] == [ConnectionError] * 4


@pytest.mark.gen_test
async def test_closing_a_store_while_it_is_opened_ends_all_its_callers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = JobStore(f"postgresql://u:secret@127.0.0.1:{silent.getsockname()[1]}/x")
        waiting = [asyncio.ensure_future(store.open()) for _ in range(2)]
        accepted, _ = await asyncio.to_thread(silent.accept)
        with accepted:
            await store.close()
            told = await asyncio.gather(*waiting, return_exceptions=True)
        assert [str(one).endswith("was closed") for one in told] == [True, True]


@pytest.mark.gen_test
async def test_the_url_is_parsed_as_by_psql(postgresql: Server, postgresql_url: str) -> None:
    plain, old = f"{postgresql_url}?sslmode=disable", postgresql_url.replace("postgresql://", "postgres://")
    async with opened(plain, old) as two:
        assert two[0].id == two[1].id
    kind, _ = await refusal(f"{postgresql_url}?sslmode=require&password=secret")  # the server has no TLS
    assert kind is ConnectionError


@pytest.mark.gen_test
async def test_a_file_that_is_no_database_or_cannot_be_written_is_a_settings_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "letter").write_text("Dear reader\n" * 500)
    kind, told = await refusal(f"sqlite:///{tmp_path}/letter")
    assert (kind, told) == (
        SettingsError,
        f"the job store sqlite:///{tmp_path}/letter cannot be used: file is not a database",
    )
    async with opened(f"sqlite:///{tmp_path}/jobs.db"):
        pass
    # As a file without the right to write, which does not keep root from it.
    monkeypatch.setattr(database, "_prepare_sqlite", lambda connection, _: connection.execute("PRAGMA query_only=1"))
    with pytest.raises(CrewError, match="attempt to write a readonly database"):
        async with opened(f"sqlite:///{tmp_path}/jobs.db") as [store]:
            await added(store)


# --- versions -------------------------------------------------------------------------------------------------------


def add_column(connection: Connection) -> None:
    """What the second version of the tables might be."""
    connection.execute(text("ALTER TABLE crew_jobs ADD COLUMN weight INTEGER"))


@pytest.fixture
def newer(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Add one more version of the tables to this crew."""

    def upgrade() -> None:
        monkeypatch.setattr(schema, "STEPS", (*schema.STEPS, add_column))

    return upgrade


@pytest.mark.gen_test
async def test_a_store_of_an_older_version_is_migrated_with_its_jobs_also_by_two_gateways_at_once(
    store_url: str, newer: Callable[[], None]
) -> None:
    async with opened(store_url) as [store]:
        before = [await added(store) for _ in range(3)]
        await store.apply([succeeded(before[0])])
        known = await store.several([one.id for one in before])
        id = store.id
    newer()
    stores = [JobStore(store_url) for _ in range(2)]
    await asyncio.gather(*(store.open() for store in stores))
    assert [store.id for store in stores] == [id, id]
    assert {one.id: one for one in await stores[1].several([one.id for one in before])} == {
        one.id: one for one in known
    }
    await added(stores[0])
    for store in stores:
        await store.close()


@pytest.mark.gen_test
async def test_gateways_that_create_the_tables_at_the_same_time_have_one_store(store_url: str) -> None:
    stores = [JobStore(store_url) for _ in range(4)]
    await asyncio.gather(*(store.open() for store in stores))
    assert len({store.id for store in stores}) == 1
    for store in stores:
        await added(store)
    assert await count_by_status(stores[0]) == {JobStatus.QUEUED: 4}
    for store in stores:
        await store.close()


@pytest.mark.gen_test
async def test_a_store_of_a_newer_crew_is_refused(
    store_url: str, newer: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(schema, "STEPS", (*schema.STEPS, add_column))
        weight = Column("weight", Integer)
        async with opened(store_url):
            assert weight.name not in schema.jobs.c  # this crew's own tables stay as they are
    kind, told = await refusal(store_url)
    assert kind is SettingsError
    assert told == (
        "the job store has version 4, made by a newer crew; this crew supports 3: upgrade crew, or use another database"
    )


@pytest.mark.gen_test
async def test_a_store_of_version_1_gets_the_columns_of_later_versions_and_keeps_its_jobs(store_url: str) -> None:
    async with opened(store_url) as [store]:
        jobs = [await added(store) for _ in range(3)]
        async with store._database.write() as connection:  # as version 1 had made it
            for column in ("progress_run", "progress_count", "submitter", "target"):
                await connection.execute(text(f"ALTER TABLE crew_jobs DROP COLUMN {column}"))
            await connection.execute(text("UPDATE crew_schema SET version = 1"))
    async with opened(store_url) as [store]:
        run = Run(host="host:7", started=time.time(), progress_count=2)
        await store.apply([report(jobs[0], None, run=run, progress=b"2")])
        told = [(one.progress, one.progress_count) for one in [await store.get(job.id) for job in jobs]]
        assert told == [(b"2", 2), (None, None), (None, None)]


# --- a server that goes away and comes back --------------------------------------------------------------------------


@pytest.mark.gen_test(timeout=60)
async def test_a_restarted_server_is_used_again_and_has_lost_nothing(own_postgresql: Server) -> None:
    async with opened(own_postgresql.make_database()) as [store]:
        await asyncio.gather(*(store.page(JobQuery()) for _ in range(10)))  # all connections are there
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
async def test_each_first_use_after_all_connections_were_terminated_succeeds(postgresql_url: str) -> None:
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
            await asyncio.gather(*(store.page(JobQuery()) for _ in range(10)))  # all connections are there
            ask(postgresql_url, TERMINATE_ALL)
            await use()
        assert store.availability.error is None
        assert await count_by_status(store) == {JobStatus.QUEUED: 1, JobStatus.SUCCESS: 1, JobStatus.CANCELED: 1}


@pytest.mark.gen_test(timeout=60)
async def test_a_job_is_submitted_looked_at_listed_and_canceled_after_all_connections_were_terminated(
    postgresql_url: str, broker_url: str
) -> None:
    async with Client(broker_url, store=JobStore(postgresql_url)) as client:
        task = f"nobody.{uuid.uuid4().hex}"
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
            assert (await store.get(job.id)).status is JobStatus.QUEUED, "who reads need not wait"
            done, _ = await asyncio.wait(writing, timeout=0.3)
            assert not done
            other.execute("COMMIT")
            await asyncio.gather(*writing)
        assert (await store.get(job.id)).status is JobStatus.SUCCESS
