"""`crew call`: call a task from the shell."""

from typing import Any

import click

from crew.cli.connection import connected, url_option
from crew.cli.exit_status import exit_on_error
from crew.cli.name import task_argument
from crew.cli.payload import json_argument, write_line
from crew.cli.suggestions import suggesting_tasks
from crew.command_line import Count, DurationType


@click.command("call")
@task_argument
@json_argument
@click.option("--priority", type=Count(0, 255), default=0, show_default=True, help="larger numbers run first")
@click.option(
    "--expiration",
    type=DurationType(),
    default=60.0,
    show_default=True,
    help="how long the whole call may take: seconds, or text like 10m",
)
@click.option("--timeout", type=DurationType(), help="how long the task itself may run: seconds, or text like 10m")
@click.option("-v", "--verbose", is_flag=True, help="print the traceback of a task that failed or timed out")
@url_option
def command(
    *,
    task: str,
    payload: Any,
    priority: int,
    expiration: float,
    timeout: float | None,
    verbose: bool,
    url: str | None,
) -> None:
    """Call a task and print its result as JSON.

    JSON is the argument of the task; `-` reads it from standard input. A result of type bytes is printed unchanged.

    Exit status: 0 success, 1 the task failed, 2 wrong usage or arguments that do not fit the task, 3 unknown task: no
    worker has ever served it, 4 expired: no worker started it in time, 5 timeout: it did not end in time, 6 the broker
    is unavailable, 7 any other error.
    """
    with exit_on_error(verbose=verbose), connected(url) as client, suggesting_tasks(url, task):
        value = client.call(task, payload, priority=priority, expiration=expiration, timeout=timeout).result()
        write_line(value)
