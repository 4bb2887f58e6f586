"""What tasks say of their jobs while they run: the latest counts, and some ten a second leave.

A task says it in its own thread, the I/O thread sends it. A task that says much costs neither memory nor messages; what
it has said last is always sent, and before its end.
"""

import asyncio
import time
from typing import Any, Final

from crew.errors import TooLarge
from crew.protocol.encoding import codec
from crew.worker.execution.execution import Execution
from crew.worker.mailbox import Mailbox
from crew.worker.replies.reply_publisher import ReplyPublisher

MAX_PROGRESS: Final = 64 * 1024  # bytes of JSON: each is written into a store, and told to whoever looks
SENT_EVERY: Final = 0.1  # seconds between two of one execution
AWAY_FOR: Final = 0.5  # seconds until the next look where the broker is away: only the latest is worth a message then


class Progress:
    """Sends what the tasks of one worker process say of their jobs.

    Args:
        mailbox: of the I/O thread.
    """

    def __init__(self, mailbox: Mailbox, replies: ReplyPublisher) -> None:
        self._mailbox = mailbox
        self._replies = replies
        self._waiting: dict[Execution, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        """Those that have said something which is not sent yet."""
        return len(self._waiting)

    def __repr__(self) -> str:
        return f"<Progress: {len(self)} to be sent>"

    def say(self, execution: Execution, value: Any) -> None:
        """As `context.progress`, in any thread."""
        if not execution.call.is_job:
            return
        try:
            body = codec.encode(value, "json", max_size=MAX_PROGRESS, compresses=False)  # a record has it as it is
        except TooLarge as error:
            raise TooLarge(f"the progress of task {execution.task.name!r} cannot be sent: {error}") from None
        if execution.latest_progress.put(body, time.monotonic()):
            self._mailbox.post(self._look, execution)

    # --- the I/O thread ---------------------------------------------------------------------------------------------

    def flush(self, execution: Execution) -> None:
        """Send what it has said last: its end is about to be said."""
        if execution in self._waiting:
            self._waiting.pop(execution).cancel()
        self._send(execution)

    def _look(self, execution: Execution) -> None:
        """It has said something."""
        wait = execution.latest_progress.sent_at + SENT_EVERY - time.monotonic()
        if execution not in self._waiting:
            self._look_in(max(0.0, wait), execution)

    def _look_in(self, seconds: float, execution: Execution) -> None:
        self._waiting[execution] = asyncio.get_running_loop().call_later(seconds, self._on_time, execution)

    def _on_time(self, execution: Execution) -> None:
        del self._waiting[execution]
        if self._replies.is_connected:
            self._send(execution)
        elif execution.latest_progress:
            self._look_in(AWAY_FOR, execution)

    def _send(self, execution: Execution) -> None:
        body = execution.latest_progress.take(time.monotonic())
        if body is not None:
            self._replies.send_progress(execution.call, body, execution.started_run())
