"""Job stores that exist: replies to their queues are retried without a limit."""

from collections.abc import Callable
from typing import Final

from crew.protocol import topology

MAX_STORES: Final = 100  # queues that are remembered; a worker serves few stores


class KnownStores:
    """The queues of job stores that are known to exist. The `reply_to` of a message alone does not prove that.

    Args:
        has_contact: whether a queue belongs to a job store whose gateway has contacted this worker.
    """

    def __init__(self, has_contact: Callable[[str], bool]) -> None:
        self._has_contact = has_contact
        self._queues: dict[str, None] = {}  # queues that have accepted the end of a job, the last `MAX_STORES` of them

    def __contains__(self, queue: str) -> bool:
        return queue in self._queues or self._has_contact(queue)

    def add(self, queue: str) -> None:
        """Remember `queue`, if its name is that of a job store: it has accepted the end of a job, so it exists."""
        if queue not in self._queues and topology.is_jobs_queue(queue):
            self._queues[queue] = None
        while len(self._queues) > MAX_STORES:
            del self._queues[next(iter(self._queues))]
