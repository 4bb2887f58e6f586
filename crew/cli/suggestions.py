"""Adds the names of similar tasks to the error about a task that no worker has ever served."""

from collections.abc import Iterator
from contextlib import contextmanager

from crew.cli.connection import with_session
from crew.client.similar_tasks import similar_tasks
from crew.command_line import did_you_mean
from crew.errors import UnknownTask


@contextmanager
def suggesting_tasks(url: str | None, task: str) -> Iterator[None]:
    """Run a block that calls or submits `task`; an UnknownTask in it suggests tasks that a worker serves now."""
    try:
        yield
    except UnknownTask as error:
        near = with_session(url, lambda session: similar_tasks(session, task))
        raise UnknownTask(f"{error}.{did_you_mean(task, near)}" if near else str(error)) from None
