"""`crew queues`: a task's queue that exists with other arguments than it should have."""

import click

from crew import settings
from crew.cli.connection import url_option, visited
from crew.cli.exit_status import reported
from crew.cli.name import task_argument
from crew.cli.shown import shown
from crew.client.admin.queue_migration import migrate
from crew.command_line import Count, Group, complain, say
from crew.protocol import topology
from crew.protocol.topology import Queue


@click.group("queues", cls=Group)
def command() -> None:
    """Look after the queues of tasks."""


@command.command("migrate")
@task_argument
@click.option("--max-queue", type=Count(1), help="calls that may wait, as @Task(max_queue=) has it")
@click.option("--queue-type", type=click.Choice(settings.QUEUE_TYPES), help="type of the new queue [CREW_QUEUE_TYPE]")
@url_option
def migrate_queue(*, task: str, max_queue: int | None, queue_type: str | None, url: str | None) -> None:
    """Declare the queue of a task anew with crew's arguments, and keep the calls that wait in it.

    For a queue of which a worker says that it exists with other arguments. Stop the workers of the task first. Calls
    wait in a queue of their own meanwhile; where this is interrupted, run it again. A call that is made in the moment
    in which there is no queue ends as UnknownTask.
    """
    with reported():
        kind = queue_type or settings.load(url).queue_type
        queue = _of_type(topology.task_queue(task, max_queue=max_queue), kind)
        holding = _of_type(topology.holding_queue(task), kind)
        done = visited(url, lambda visit: migrate(visit, queue, holding))
        if not done.has_changed:
            say(f"{shown(queue.name)} has the right arguments already")
            return
        say(f"{shown(queue.name)} was declared anew, with {done.moved} messages that waited in it")
        if done.lost:
            complain(
                f"{done.lost} calls came in the moment in which it was deleted, and are lost: a quorum queue cannot be "
                "deleted on the condition that it is empty"
            )


def _of_type(queue: Queue, queue_type: str) -> Queue:
    item = topology.of_type(queue, queue_type)
    assert isinstance(item, Queue)
    return item
