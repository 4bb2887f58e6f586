"""Job heartbeat: reports at an interval that a job still runs, as its delivery may be acknowledged already.

A heartbeat is another STARTED reply. The I/O thread sends it, so that it goes on whatever the task does. If that thread
stalls, the supervisor kills the process.
"""

import asyncio

from crew.protocol.deadline import HEARTBEAT_EVERY
from crew.worker.execution.execution import Execution
from crew.worker.replies.reply_publisher import ReplyPublisher


class Heartbeat:
    """Heartbeat of all running jobs of a process, with one timer. All methods run on the I/O thread.

    Args:
        every: seconds between two heartbeats. Default 30.
    """

    def __init__(self, replies: ReplyPublisher, *, every: float = HEARTBEAT_EVERY) -> None:
        self._replies = replies
        self._every = every
        self._running: dict[Execution, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Heartbeat of {len(self._running)} jobs>"

    def add(self, execution: Execution) -> None:
        """Start the heartbeat of a job whose start was reported; ignored if its result is decided already."""
        if execution.result is not None:
            return
        self._running[execution] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._every, self._beat)

    def remove(self, execution: Execution) -> None:
        """Stop the heartbeat of a job; ignored if it has none."""
        self._running.pop(execution, None)

    def stop(self) -> None:
        """Stop all heartbeats; idempotent."""
        self._running.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _beat(self) -> None:
        self._timer = None
        for execution in self._running:
            self._replies.announce(execution.call, execution.started_run())
        if self._running:
            self._timer = asyncio.get_running_loop().call_later(self._every, self._beat)
