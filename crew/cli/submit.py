"""`crew submit`: submit a job from the shell, or from cron."""

import json
from typing import Any

import click

from crew.cli.connection import url_option
from crew.cli.exit_status import exit_on_error
from crew.cli.name import task_argument
from crew.cli.payload import json_argument
from crew.cli.suggestions import suggesting_tasks
from crew.command_line import Count, DurationType, print_line
from crew.errors import CrewError

try:
    from crew.cli.jobs.job_store import with_service
    from crew.cli.jobs.options import database_option
    from crew.cli.jobs.result import print_result
    from crew.jobs import JobService
    from crew.jobs.specification import UNIQUE
except ImportError as error:  # names the missing extra
    raise click.UsageError(str(error)) from None


@click.command("submit")
@task_argument
@json_argument
@click.option("--priority", type=Count(0, 255), default=0, show_default=True, help="larger numbers run first")
@click.option("--timeout", type=DurationType(), help="how long an execution may run; default: 10m")
@click.option(
    "--expiration", type=DurationType(), help="how long the job may wait for its first worker; default: no limit"
)
@click.option("--result-ttl", type=DurationType(), help="how long the record is kept after a success; default: 1d")
@click.option("--failure-ttl", type=DurationType(), help="how long it is kept after any other end; default: 7d")
@click.option(
    "--unique",
    type=click.Choice(UNIQUE),
    help="if such a job is queued or runs: skip prints its id and submits nothing, replace cancels it",
)
@click.option("--unique-key", metavar="KEY", help="of --unique; default: a hash of TASK and JSON")
@click.option(
    "--idempotency-key", metavar="KEY", help="a second submit with this key submits nothing, even after the end"
)
@click.option("--id", metavar="UUID", help="id of the new job; default: a random one")
@click.option("--wait-for-worker", is_flag=True, help="accept the job even if no worker has ever served the task")
@click.option("--wait", "is_awaited", is_flag=True, help="wait until the job has ended, and print its result as JSON")
@click.option("--wait-timeout", type=DurationType(), help="wait so long at most; the job goes on")
@click.option("--json", "is_json", is_flag=True, help="print one line of JSON: id and is_new; after a wait the record")
@click.option("-v", "--verbose", is_flag=True, help="print the traceback of a task that failed or timed out")
@database_option
@url_option
def command(
    *,
    task: str,
    payload: Any,
    is_awaited: bool,
    wait_timeout: float | None,
    is_json: bool,
    verbose: bool,
    database: str | None,
    url: str | None,
    **given: Any,
) -> None:
    """Submit a job and print its id; with --wait its result.

    JSON is the argument of the task; `-` reads it from standard input. Durations are seconds, or text like 10m. The
    job is recorded in the store that --database or CREW_DATABASE names, else in the file .crew/jobs.db in this folder.
    Keep a program with this store running, like `crew gateway`: it records how jobs end.

    Ctrl-C during the wait does not affect the job. The exit status is that of `crew call`; without --wait, 0 means
    that the job is accepted.
    """
    options = {name: value for name, value in given.items() if value is not None}

    async def submit(service: JobService) -> None:
        try:
            job = await service.submit(task, payload, **options)
        except CrewError:
            raise
        except ValueError as error:  # a key or an id
            raise click.UsageError(str(error)) from None
        if not is_awaited and wait_timeout is None:
            print_line(json.dumps({"id": job.id, "is_new": job.is_new}) if is_json else job.id)
            return
        print_line(f"job {job.id}", err=True)
        await print_result(service, job.id, wait_timeout, is_json=is_json)

    with exit_on_error(verbose=verbose), suggesting_tasks(url, task):
        with_service(database, url, submit, creates=True)
