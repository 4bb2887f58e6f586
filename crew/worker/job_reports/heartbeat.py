"""Says now and then of every job that runs here that it does: its delivery may have ended with its start.

What is sent is STARTED once more. The I/O thread sends it, so that it goes on whatever the task does; where that thread
is stopped for long, the process is killed.
"""

import asyncio

from crew.protocol.deadline import HEARTBEAT_EVERY
from crew.worker.execution.execution import Execution
from crew.worker.replies.reply_publisher import ReplyPublisher


class Heartbeat:
    """One timer for all jobs of a process, none while none runs. All of it on the I/O thread."""

    def __init__(self, replies: ReplyPublisher) -> None:
        self._replies = replies
        self._running: dict[Execution, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Heartbeat of {len(self._running)} jobs>"

    def begin(self, execution: Execution) -> None:
        """It runs, and that was said; nothing where it is decided already, as its end was said then."""
        if execution.result is not None:
            return
        self._running[execution] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(HEARTBEAT_EVERY, self._beat)

    def end(self, execution: Execution) -> None:
        """Its end is said; nothing where it never began."""
        self._running.pop(execution, None)

    def stop(self) -> None:
        """Say no more; idempotent."""
        self._running.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _beat(self) -> None:
        self._timer = None
        for execution in self._running:
            self._replies.announce(execution.call, execution.started_run())
        if self._running:
            self._timer = asyncio.get_running_loop().call_later(HEARTBEAT_EVERY, self._beat)
