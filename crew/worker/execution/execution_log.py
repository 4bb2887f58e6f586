"""One line of the log for each execution that has ended: task, id, seconds, result.

A value, a payload or a header is never in it. Where the task has failed, its traceback follows, as its caller and the
record of its job have it.

A line costs a tenth of the CPU of a short call. So where more than LINES executions end within a second, the others of
that second share one line; each failure has its own line at any rate, and with `--logging debug` each execution.
"""

import asyncio
import collections
import logging
import time
from typing import Final

from crew.log import Lines
from crew.protocol import failure, topology
from crew.protocol.message import Outcome
from crew.worker.execution.execution import Execution
from crew.worker.execution.interrupt_reason import Reason
from crew.worker.execution.result import Ended

logger = logging.getLogger(__name__)

LINES: Final = 50  # within a second
EXPECTED: Final = (Outcome.RETURNED, Outcome.CANCELED, Outcome.EXPIRED)  # no failure of the task


class ExecutionLog:
    """The lines of one consumer. All of it on the I/O thread."""

    def __init__(self) -> None:
        self._second_ends = 0.0  # time.monotonic()
        self._lines = 0  # of this second
        self._more: collections.Counter[str] = collections.Counter()  # task -> executions without a line

    def end(self, execution: Execution) -> None:
        """Log the end of `execution`, once: INFO, or WARNING with the traceback where it failed or was interrupted.

        A cancelled one is INFO: its caller wanted that. One that has not begun is not logged.
        """
        ended = execution.ended
        if ended is None or execution.run_time is None or execution.is_logged:
            return
        execution.is_logged = True
        if ended.outcome not in EXPECTED:
            _log_failure(execution)
        elif logger.isEnabledFor(logging.INFO):
            if self._has_room():
                _log_end(execution)
            else:
                self._more[execution.task.name] += 1

    def flush(self) -> None:
        """Log how many had no line of their own."""
        for task, count in self._more.items():
            logger.info(
                "executions ended: task=%s count=%d, more than %d a second have no line each", task, count, LINES
            )
        self._more.clear()

    def _has_room(self) -> bool:
        """Whether one more line may be written in this second."""
        now = time.monotonic()
        if now >= self._second_ends:
            self._second_ends, self._lines = now + 1.0, 0
        self._lines += 1
        if self._lines == LINES + 1:
            asyncio.get_running_loop().call_later(self._second_ends - now, self.flush)
        return self._lines <= LINES or logger.isEnabledFor(logging.DEBUG)


def _log_end(execution: Execution) -> None:
    ended = execution.ended
    logger.info(
        "execution ended: task=%s id=%s seconds=%.3f result=%s",
        execution.task.name,
        execution.call.id,
        execution.run_time,
        ended and ended.outcome,
    )


def _log_failure(execution: Execution) -> None:
    ended = execution.ended
    assert ended is not None
    traceback = execution.where_stopped() if execution.is_interrupted else _traceback(execution.task.name, ended)
    logger.warning(
        "execution failed: task=%s id=%s seconds=%.3f result=%s attempt=%d%s%s",
        execution.task.name,
        execution.call.id,
        execution.run_time,
        "interrupted" if execution.reason is Reason.DRAIN else ended.outcome,
        execution.attempt,
        "" if ended.retry_after is None else f" retry_in={ended.retry_after:g}",
        Lines(traceback),
    )


def _traceback(task: str, ended: Ended) -> str:
    """Of a URL job only the type of the exception: the message quotes the request, which may hold secrets."""
    told = failure.decode(ended.body.data)
    return told.type_name if task == topology.HTTP_TASK else told.traceback
