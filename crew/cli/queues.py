"""`crew queues`: migrate a task's queue that has wrong arguments."""

import click

from crew import settings
from crew.cli.connection import url_option, with_session
from crew.cli.exit_status import exit_on_error
from crew.cli.name import task_argument
from crew.cli.shown import shown
from crew.client.admin.queue_migration import migrate
from crew.command_line import Count, Group, print_error, print_line
from crew.protocol import topology
from crew.protocol.topology import Queue


@click.group("queues", cls=Group)
def command() -> None:
    """Migrate the queues of tasks."""


@command.command("migrate")
@task_argument
@click.option("--max-queue", type=Count(1), help="maximum number of waiting calls, as in @Task(max_queue=)")
@click.option("--queue-type", type=click.Choice(settings.QUEUE_TYPES), help="type of the new queue [CREW_QUEUE_TYPE]")
@url_option
def migrate_queue(*, task: str, max_queue: int | None, queue_type: str | None, url: str | None) -> None:
    """Delete the queue of a task and declare it with the right arguments, without losing its calls.

    Use it when a worker reports that its queue exists with other arguments. Stop the workers of the task first. The
    waiting calls are moved to a temporary queue and back. If the command is interrupted, run it again. A call made in
    the short time without a queue fails with UnknownTask.
    """
    with exit_on_error():
        kind = queue_type or settings.load(url).queue_type
        queue = _of_type(topology.task_queue(task, max_queue=max_queue), kind)
        holding = _of_type(topology.holding_queue(task), kind)
        done = with_session(url, lambda session: migrate(session, queue, holding))
        if not done.has_changed:
            print_line(f"queue {shown(queue.name)}: its arguments are right, nothing to do")
            return
        print_line(f"queue {shown(queue.name)}: declared again, {done.moved} waiting messages moved")
        if done.lost:
            print_error(
                f"queue {shown(queue.name)}: {done.lost} calls arrived while it was deleted, and are lost (a "
                "quorum queue cannot be deleted on the condition that it is empty)"
            )


def _of_type(queue: Queue, queue_type: str) -> Queue:
    item = topology.of_type(queue, queue_type)
    assert isinstance(item, Queue)
    return item
