"""`crew jobs`: list, show, wait for, cancel, retry and purge jobs."""

import functools
import json
import math
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

import click

from crew.cli.confirm import confirm, yes_option
from crew.cli.connection import url_option
from crew.cli.exit_status import exit_on_error
from crew.command_line import Count, DurationType, Group, print_error, print_line
from crew.errors import CrewError
from crew.protocol import topology

try:
    from crew.cli.jobs.job_id import check_id_or_beginning, whole_id
    from crew.cli.jobs.job_store import pages, with_service, with_store
    from crew.cli.jobs.options import database_option, json_option
    from crew.cli.jobs.result import print_result
    from crew.cli.jobs.text import all_as_json, as_json, as_line, as_page
    from crew.jobs import Job, JobService, JobStatus, JobStore
    from crew.jobs.store.query import PAGE
except ImportError as error:  # names the missing extra
    raise click.UsageError(str(error)) from None  # exit status 2, as in `crew gateway`; 1 would mean a failed task

F = TypeVar("F", bound=Callable[..., Any])

ANY: Final = "any"  # as in `GET /jobs/?status=any`
ENDED: Final = tuple(status for status in JobStatus if status.is_final)


def _checked(check: Callable[[Any], Any]) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """A click callback that checks each given value, and reports why a value is invalid."""

    def callback(_context: click.Context, _parameter: click.Parameter, given: Any) -> Any:
        try:
            if isinstance(given, tuple):
                return tuple(map(check, given))
            return None if given is None else check(given)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return callback


_checked_id: Final = _checked(check_id_or_beginning)
_checked_task: Final = _checked(functools.partial(topology.check_name, "it"))

_id_argument: Final = click.argument("id", metavar="ID", callback=_checked_id)
_ids_argument: Final = click.argument("ids", metavar="ID...", nargs=-1, required=True, callback=_checked_id)
_task_option: Final = click.option("--task", metavar="NAME", callback=_checked_task, help="only jobs of this task")


def _status_option(*allowed: str) -> Callable[[F], F]:
    return click.option(
        "--status",
        "statuses",
        multiple=True,
        type=click.Choice([str(one) for one in allowed]),
        help="only jobs with this status; repeatable",
    )


@click.group("jobs", cls=Group)
def command() -> None:
    """List, show, wait for, cancel, retry or purge jobs.

    A job is a call with a record in the job store: the database that --database or CREW_DATABASE names, else the file
    .crew/jobs.db in this folder. For ID, the first digits are enough (4 or more), if they identify one job.
    """
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # for terminals without UTF-8


@command.command("list")
@_status_option(*JobStatus, ANY)
@_task_option
@click.option("--limit", type=Count(1), default=PAGE, show_default=True, help="maximum number of jobs")
@json_option
@database_option
def list_jobs(*, statuses: tuple[str, ...], task: str | None, limit: int, is_json: bool, database: str | None) -> None:
    """Print one line per job, newest first: id, status, task, time of submission, running time, error."""

    async def run(store: JobStore) -> bool:
        """Print up to `limit` jobs; returns whether these were all."""
        left = limit
        async for page in pages(store, () if ANY in statuses else statuses, task, limit):
            for job in page.jobs[:left]:
                print_line(as_json(job) if is_json else as_line(job))
            left -= len(page.jobs)
            if left < 0 or (left == 0 and page.cursor is not None):
                return False
        return True

    with exit_on_error():
        are_all = with_store(database, run)
        sys.stdout.flush()
        if not are_all:
            print_line(f"{_jobs(limit)} shown, more exist: use --limit to show more", err=True)


@command.command("show")
@_id_argument
@json_option
@database_option
def show_job(*, id: str, is_json: bool, database: str | None) -> None:
    """Print everything about one job: status, worker, times, payload and result."""

    async def get(store: JobStore) -> Job:
        return await store.get(await whole_id(store, id))

    with exit_on_error():
        job = with_store(database, get)
        print_line(all_as_json(job) if is_json else as_page(job))
        sys.stdout.flush()


@command.command("wait")
@_id_argument
@click.option(
    "--timeout",
    type=DurationType(may_be_zero=True),
    help="how long to wait: seconds, or text like 15m; 0: not at all; default: as long as it takes",
)
@click.option("--json", "is_json", is_flag=True, help="print the record as one line of JSON, also of a failed job")
@database_option
@url_option
def wait_for_job(*, id: str, timeout: float | None, is_json: bool, database: str | None, url: str | None) -> None:
    """Wait until a job has ended and print its result as JSON.

    The exit status is that of `crew call`.
    """

    async def result(service: JobService) -> None:
        await print_result(service, await whole_id(service.store, id), timeout, is_json=is_json)

    with exit_on_error():
        with_service(database, url, result)


@command.command("cancel")
@_ids_argument
@json_option
@database_option
@url_option
def cancel_jobs(*, ids: tuple[str, ...], is_json: bool, database: str | None, url: str | None) -> None:
    """Cancel jobs: a queued job is not started, a running job is interrupted."""

    async def cancel(service: JobService, id: str) -> None:
        if not await service.cancel(id):
            job = await service.get(id, with_bodies=False)
            raise CrewError(f"job {id} cannot be canceled: it has ended already, with status {job.status.value}")
        print_line(json.dumps({"id": id, "status": JobStatus.CANCELED}) if is_json else f"job {id} canceled")

    _for_each(ids, database, url, cancel)


@command.command("retry")
@_ids_argument
@json_option
@database_option
@url_option
def retry_jobs(*, ids: tuple[str, ...], is_json: bool, database: str | None, url: str | None) -> None:
    """Submit ended jobs again, and print the ids of the new jobs.

    If a job with the same unique key is queued or running, its id is printed instead, and nothing is submitted.
    """

    async def retry(service: JobService, id: str) -> None:
        try:
            again = await service.retry(id)
        except ValueError as error:
            raise CrewError(str(error)) from None
        described = {"id": again.id, "is_new": again.is_new, "retry_of": id}
        print_line(json.dumps(described) if is_json else again.id)

    _for_each(ids, database, url, retry)


@command.command("purge")
@click.argument("ids", metavar="[ID]...", nargs=-1, callback=_checked_id)
@_status_option(*ENDED)
@_task_option
@click.option(
    "--older-than",
    type=DurationType(may_be_zero=True, most=math.inf),
    help="only jobs that ended longer ago than this: seconds, or text like 15m, 7d",
)
@click.option("--all", "everything", is_flag=True, help="all jobs that have ended")
@yes_option
@click.option("--json", "is_json", is_flag=True, help="print one line of JSON: the number of deleted jobs")
@database_option
def purge_jobs(
    *,
    ids: tuple[str, ...],
    statuses: tuple[str, ...],
    task: str | None,
    older_than: float | None,
    everything: bool,
    yes: bool,
    is_json: bool,
    database: str | None,
) -> None:
    """Delete the records and results of jobs that have ended.

    The record of a job that was canceled in the queue remains until a worker has discarded its message: the record
    prevents the start of the job.
    """
    has_others = bool(statuses) or task is not None or older_than is not None
    if (bool(ids) + has_others + everything) != 1:
        raise click.UsageError("select jobs in one way: by ID, by --status, --task and --older-than, or with --all")
    before = None if older_than is None else time.time() - older_than

    async def meant(store: JobStore) -> list[str]:
        if ids:
            return [await whole_id(store, id) for id in ids]
        found = [job async for page in pages(store, statuses or ENDED, task) for job in page.jobs]
        return [job.id for job in found if before is None or (job.ended or 0) < before]

    async def purge(store: JobStore) -> int:
        return await store.delete_ended(chosen)

    with exit_on_error():
        chosen = with_store(database, meant)
        if not yes:
            confirm(f"Delete the records of {_jobs(len(chosen))} permanently?")
        count = with_store(database, purge)
        print_line(json.dumps({"deleted": count}) if is_json else f"{_jobs(count)} deleted")
        if ids and count < len(set(ids)):
            raise CrewError(
                "the other jobs were not deleted: each is unknown, has not ended, or still has its message in a queue"
            )


def _for_each(
    ids: Sequence[str], database: str | None, url: str | None, action: Callable[[JobService, str], Awaitable[None]]
) -> None:
    """Run `action` for each id, also after a failure. The first failure sets the exit status."""

    async def run(service: JobService) -> list[CrewError]:
        failed = []
        for id in dict.fromkeys(ids):
            try:
                await action(service, await whole_id(service.store, id))
            except CrewError as error:
                failed.append(error)
        return failed

    with exit_on_error():
        failed = with_service(database, url, run)
        for error in failed[1:]:
            print_error(str(error))
        if failed:
            raise failed[0]


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count} jobs"
