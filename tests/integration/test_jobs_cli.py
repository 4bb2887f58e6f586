"""`crew jobs`: list, show, wait for, cancel, retry and purge jobs."""

import asyncio
import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from crew import Client, CrewError
from crew.cli import main
from crew.cli.connection import ConnectTimeout
from crew.cli.exit_status import ExitStatus
from crew.jobs import JobStore
from crew.jobs.specification import specify
from tests.integration.conftest import StartWorker
from tests.support.processes import Process
from tests.support.waiting import eventually

Crew = Callable[..., Result]
Submit = Callable[..., list[str]]

SOON = "5"  # seconds, for actions that take milliseconds
ID = str(uuid.UUID(int=1))


@pytest.fixture
def database(tmp_path: Path) -> str:
    """URL of a job store for this test only."""
    return f"sqlite:///{tmp_path}/jobs.db"


@pytest.fixture
def crew(broker_url: str, database: str, monkeypatch: pytest.MonkeyPatch) -> Crew:
    """Runs `crew jobs` with arguments."""
    monkeypatch.setenv("CREW_AMQP_URL", broker_url)
    monkeypatch.setenv("CREW_DATABASE", database)
    return lambda *arguments, **more: CliRunner().invoke(main, ["jobs", *arguments], **more)


@pytest.fixture
def submit(broker_url: str, database: str, prefix: str) -> Submit:
    """Submits a job of a task for each payload, waits until they have ended, and returns their ids."""

    async def run(task: str, payloads: tuple[Any, ...], *, is_awaited: bool) -> list[str]:
        async with Client(broker_url, store=JobStore(database)) as client:
            handles = [await client.submit(prefix + task, payload, wait_for_worker=True) for payload in payloads]
            for handle in handles if is_awaited else []:
                try:
                    await handle.result(timeout=10)
                except CrewError:
                    continue
            return [handle.id for handle in handles]

    return lambda task, *payloads, is_awaited=True: asyncio.run(run(task, payloads, is_awaited=is_awaited))


@pytest.fixture
def worker(start_worker: StartWorker) -> Process:
    """A worker that serves jobs_tasks.py."""
    return start_worker(script="jobs_tasks.py")


def ids_of(listed: Result) -> list[str]:
    assert listed.exit_code == 0, listed.output
    return [line.split()[0] for line in listed.stdout.splitlines()]


# --- list and show ---------------------------------------------------------------------------------------------------


def test_list_shows_the_newest_jobs_first_and_filters_by_status_and_task(
    worker: Process, crew: Crew, submit: Submit, prefix: str
) -> None:
    doubled = submit("double", 1, 2, 3)
    failed = submit("fail", None)

    assert ids_of(crew("list")) == failed + doubled[::-1]
    assert ids_of(crew("list", "--status", "error", "--status", "queued")) == failed
    assert ids_of(crew("list", "--task", prefix + "double", "--limit", "2")) == [doubled[2], doubled[1]]
    assert crew("list", "--limit", "2").stderr == "2 jobs shown, more exist: use --limit to show more\n"
    assert crew("list", "--limit", "4").stderr == ""
    as_json = [json.loads(line) for line in crew("list", "--json").stdout.splitlines()]
    assert [job["id"] for job in as_json] == failed + doubled[::-1]
    assert as_json[0]["error"]["type"] == "LookupError"


def test_show_prints_payload_and_result_with_escaped_control_characters(
    worker: Process, crew: Crew, submit: Submit
) -> None:
    (doubled,) = submit("double", ["ü\x1b[2J"])
    (failed,) = submit("fail", None)

    page = crew("show", doubled).stdout
    assert "status       success" in page
    assert page.count('"ü') == 3
    assert "\x1b" not in page
    assert json.loads(crew("show", doubled, "--json").stdout)["result"] == ["ü\x1b[2J"] * 2
    page = crew("show", failed).stdout
    assert "error        LookupError: no such" in page
    assert "\x1b" not in page
    assert all(line.isprintable() for line in crew("list").stdout.splitlines())


# --- wait, cancel, retry and purge -----------------------------------------------------------------------------------


def test_wait_prints_the_result_and_has_the_exit_status_of_a_call(worker: Process, crew: Crew, submit: Submit) -> None:
    (doubled,) = submit("double", 21, is_awaited=False)
    (failed,) = submit("fail", None, is_awaited=False)
    (asleep,) = submit("sleep", 60, is_awaited=False)

    waited = crew("wait", doubled, "--timeout", SOON)
    assert (waited.exit_code, waited.stdout) == (0, "42\n")
    waited = crew("wait", failed, "--timeout", SOON)
    assert (waited.exit_code, waited.stdout) == (1, "")
    assert "LookupError" in waited.stderr
    waited = crew("wait", asleep, "--timeout", "0.1")
    assert (waited.exit_code, waited.stderr) == (
        5,
        f"crew: job {asleep} has not ended in time; it goes on\n",
    )
    assert crew("cancel", asleep).exit_code == 0


def test_cancel_interrupts_a_running_job_and_a_queued_one_never_starts(
    worker: Process, crew: Crew, submit: Submit, prefix: str
) -> None:
    running, queued = submit("sleep", 60, 61, is_awaited=False)
    (ended,) = submit("double", 1, is_awaited=False)
    worker.says("asleep")

    canceled = crew("cancel", queued, running)  # in the other order the worker could start the second one

    assert (canceled.exit_code, canceled.stdout) == (0, f"job {queued} canceled\njob {running} canceled\n")
    eventually(lambda: "interrupted" in worker.output)
    assert crew("wait", ended, "--timeout", SOON).stdout == "2\n"  # the worker is free
    assert worker.output.count("asleep") == 1
    canceled = crew("cancel", running, ended)
    assert (canceled.exit_code, canceled.stdout) == (7, "")
    assert f"job {running} cannot be canceled: it has ended already, with status canceled\n" in canceled.stderr
    assert f"job {ended} cannot be canceled: it has ended already, with status success\n" in canceled.stderr
    assert set(ids_of(crew("list", "--status", "canceled"))) == {running, queued}


def test_retry_submits_the_same_job_again(worker: Process, crew: Crew, submit: Submit) -> None:
    (first,) = submit("double", "ab")
    (asleep,) = submit("sleep", 60, is_awaited=False)

    again = crew("retry", first)

    assert again.exit_code == 0
    (second,) = again.stdout.split()
    assert second != first
    crew("cancel", asleep)
    assert crew("wait", second, "--timeout", SOON).stdout == '"abab"\n'
    assert sorted(ids_of(crew("list", "--status", "success"))) == sorted([first, second])


def test_purge_deletes_only_selected_jobs_that_have_ended(
    worker: Process, crew: Crew, submit: Submit, prefix: str
) -> None:
    doubled = submit("double", 1, 2, 3)
    failed = submit("fail", 1, 2)
    (waiting,) = submit("unserved", 1, is_awaited=False)

    assert crew("purge", "--all", input="n\n").exit_code == 1
    assert crew("purge", "--older-than", "1d", "--yes").stdout == "0 jobs deleted\n"
    assert crew("purge", "--status", "error", "--task", prefix + "fail", "--yes").stdout == "2 jobs deleted\n"
    assert crew("purge", doubled[0], "--yes").stdout == "1 job deleted\n"
    refused = crew("purge", waiting, "--yes")
    assert (refused.exit_code, refused.stdout) == (7, "0 jobs deleted\n")
    assert "the other jobs were not deleted" in refused.stderr
    assert ids_of(crew("list")) == [waiting, *doubled[:0:-1]]
    assert crew("purge", "--all", "--yes").stdout == "2 jobs deleted\n"
    assert crew("show", failed[0]).exit_code == 7


def test_the_first_digits_of_an_id_are_enough_if_they_are_unique(
    worker: Process, crew: Crew, submit: Submit, prefix: str
) -> None:
    ids = submit("double", *range(40))
    unique = next(id for id in ids if sum(other[:4] == id[:4] for other in ids) == 1)

    assert f"id           {unique}" in crew("show", unique[:4]).stdout
    assert crew("wait", unique[:9]).stdout == f"{2 * ids.index(unique)}\n"
    assert crew("retry", unique[:6]).exit_code == 0
    ended = crew("cancel", unique[:8].upper())
    assert (ended.exit_code, ended.stderr) == (
        7,
        f"crew: job {unique} cannot be canceled: it has ended already, with status success\n",
    )
    assert crew("purge", unique[:4], "--yes").stdout == "1 job deleted\n"
    gone = crew("show", unique[:4])
    assert (gone.exit_code, gone.stderr) == (7, f"crew: no job has an id that begins with {unique[:4]}\n")


def test_an_error_about_ambiguous_digits_names_the_jobs(database: str, crew: Crew) -> None:
    ids = [f"0c5a6f2e-0000-4000-8000-00000000000{number}" for number in range(2)]
    asyncio.run(_record_jobs(database, ids))

    for command in ("show", "purge"):
        done = crew(command, "0c5a6f2e0000")
        assert (done.exit_code, done.stdout) == (7, "")
        assert (
            done.stderr
            == f"crew: several jobs have an id that begins with 0c5a6f2e-0000: give more digits ({', '.join(ids)})\n"
        )


def test_list_accepts_the_status_any(database: str, crew: Crew) -> None:
    asyncio.run(_record_jobs(database, [ID]))

    assert ids_of(crew("list", "--status", "any")) == ids_of(crew("list")) == [ID]


async def _record_jobs(database: str, ids: list[str]) -> None:
    store = JobStore(database)
    await store.open()
    for id in ids:
        await store.insert(specify("t", id=id, wait_for_worker=True))
    await store.close()


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("show", ID), 7, f"crew: there is no job {ID}"),
        (("wait", ID), 7, f"crew: there is no job {ID}"),
        (("cancel", ID), 7, f"crew: there is no job {ID}"),
        (("retry", ID), 7, f"crew: there is no job {ID}"),
        (("wait", ID, "--timeout", "0"), 7, f"crew: there is no job {ID}"),
        (("wait", ID, "--timeout", "9999d"), 2, "it must be at least 0 and at most"),
        (("show", "seven"), 2, "the id of a job must be a uuid, not 'seven'"),
        (("cancel", "seven"), 2, "the id of a job must be a uuid, not 'seven'"),
        (("list", "--status", "done"), 2, "'done' is not one of"),
        (("purge",), 2, "select jobs in one way"),
        (("purge", "--all", "--task", "x"), 2, "select jobs in one way"),
        (("list", "--database", "mysql://u:secret@host/x"), 2, "a sqlite:// or a postgresql:// database, not mysql://"),
        (("list", "--task", "\udcff"), 2, "it must be valid Unicode"),
        (("list", "--task", ""), 2, "it must have 1 to"),
        (("list", "--database", "sqlite:///\udcff.db"), 2, "the URL of the job store must look like"),
        (("list", "--database", "sqlite:////nowhere/at/all.db"), 2, "job store sqlite"),
        (("wait", ID, "--url", "amqp://u:secret@127.0.0.1:1/"), 6, "crew: "),
    ],
)
def test_an_error_of_a_jobs_command_is_one_line_on_stderr(
    crew: Crew, database: str, arguments: tuple[str, ...], status: int, message: str
) -> None:
    asyncio.run(_create_store(database))

    timeout = ConnectTimeout(0.3) if status == ExitStatus.BROKER_UNAVAILABLE else None
    result = crew(*arguments, obj=timeout)

    assert result.exit_code == status, result.output
    assert result.stdout == ""
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert "secret" not in result.stderr
    assert len(result.stderr.replace("\nTry ", " ").splitlines()) <= (1 if status != 2 else 4)


def test_reading_commands_create_no_job_store(tmp_path: Path, crew: Crew) -> None:
    assert crew("list").exit_code == 2
    assert not (tmp_path / "jobs.db").exists()


async def _create_store(database: str) -> None:
    store = JobStore(database)
    await store.open()
    await store.close()
