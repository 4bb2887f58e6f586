"""Progress reports of jobs: at most ten a second for each job, and always the latest value.

A task reports in its own thread, and the I/O thread sends. Frequent reports cost neither memory nor messages. The last
report is always sent, before the end of the job.
"""

import asyncio
import time
from typing import Any, Final

from crew.errors import TooLarge
from crew.protocol.encoding import codec
from crew.worker.execution.execution import Execution
from crew.worker.mailbox import Mailbox
from crew.worker.replies.reply_publisher import ReplyPublisher

MAX_PROGRESS: Final = 64 * 1024  # bytes of JSON: each report is written into a store and sent to all watchers
SEND_INTERVAL: Final = 0.1  # seconds between two reports of one execution
RETRY_INTERVAL: Final = 0.5  # seconds until the next attempt while the broker is away; only the latest report is sent


class Progress:
    """Sends the progress reports of one worker process.

    Args:
        mailbox: of the I/O thread.
    """

    def __init__(self, mailbox: Mailbox, replies: ReplyPublisher) -> None:
        self._mailbox = mailbox
        self._replies = replies
        self._waiting: dict[Execution, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        """Executions whose latest report is not sent yet."""
        return len(self._waiting)

    def __repr__(self) -> str:
        return f"<Progress: {len(self)} to be sent>"

    def report(self, execution: Execution, value: Any) -> None:
        """Report progress, for `context.progress`; may be called in any thread."""
        if not execution.call.is_job:
            return
        try:
            body = codec.encode(
                value, "json", max_size=MAX_PROGRESS, compresses=False
            )  # stored in the job's record as it is
        except TooLarge as error:
            raise TooLarge(f"the progress of task {execution.task.name!r} cannot be sent: {error}") from None
        if execution.latest_progress.put(body, time.monotonic()):
            self._mailbox.post(self._schedule, execution)

    # --- the I/O thread ---------------------------------------------------------------------------------------------

    def flush(self, execution: Execution) -> None:
        """Send its latest report now, before the end of the job is reported."""
        if execution in self._waiting:
            self._waiting.pop(execution).cancel()
        self._send(execution)

    def _schedule(self, execution: Execution) -> None:
        """Schedule the sending of a new report, unless that is scheduled already."""
        wait = execution.latest_progress.sent_at + SEND_INTERVAL - time.monotonic()
        if execution not in self._waiting:
            self._send_in(max(0.0, wait), execution)

    def _send_in(self, seconds: float, execution: Execution) -> None:
        self._waiting[execution] = asyncio.get_running_loop().call_later(seconds, self._on_time, execution)

    def _on_time(self, execution: Execution) -> None:
        del self._waiting[execution]
        if self._replies.is_connected:
            self._send(execution)
        elif execution.latest_progress:
            self._send_in(RETRY_INTERVAL, execution)

    def _send(self, execution: Execution) -> None:
        body = execution.latest_progress.take(time.monotonic())
        if body is not None:
            self._replies.send_progress(execution.call, body, execution.started_run())
