"""`crew call`: one call from the shell."""

from typing import Any

import click

from crew.cli.connection import connected, url_option, visited
from crew.cli.exit_status import reported
from crew.cli.name import task_argument
from crew.cli.payload import json_argument, write_line
from crew.client.similar_tasks import similar_tasks
from crew.command_line import Count, Seconds, did_you_mean
from crew.errors import UnknownTask
from crew.protocol import deadline


@click.command("call")
@task_argument
@json_argument
@click.option("--priority", type=Count(0, 255), default=0, show_default=True, help="larger goes first")
@click.option(
    "--expiration",
    type=Seconds(0, deadline.MAX_DURATION, min_open=True),
    default=60.0,
    show_default=True,
    help="seconds until the value must be here",
)
@click.option(
    "--timeout", type=Seconds(0, deadline.MAX_DURATION, min_open=True), help="seconds that the task itself may run"
)
@click.option("-v", "--verbose", is_flag=True, help="show where a task failed or timed out")
@url_option
def command(
    *,
    task: str,
    data: Any,
    priority: int,
    expiration: float,
    timeout: float | None,
    verbose: bool,
    url: str | None,
) -> None:
    """Call a task, and print its value as JSON.

    JSON is what the task is given; `-` reads it from standard input. A value of bytes is printed as it is.

    The exit status tells what became of the call: 0 there is a value, 1 the task failed, 2 wrong command line, 3 no
    worker has ever served this task, 4 no worker took it in time, 5 it did not end in time, 6 the broker is away, 7
    anything else.
    """
    with reported(verbose=verbose), connected(url) as client:
        try:
            value = client.call(task, data, priority=priority, expiration=expiration, timeout=timeout).result()
        except UnknownTask as error:
            near = visited(url, lambda visit: similar_tasks(visit, task))
            raise UnknownTask(f"{error}.{did_you_mean(task, near)}" if near else str(error)) from None
        write_line(value)
