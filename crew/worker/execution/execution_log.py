"""Logs one line for each execution that has ended: task, id, seconds, result.

The line never has a value, a payload or a header. If the task has failed, its traceback follows, the same as in the
reply and in the record of the job.

A line costs a tenth of the CPU of a short call. If more than LINES executions end within a second, the others of that
second share one line. Each failure has its own line at any rate, and with `--logging debug` each execution.
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
from crew.worker.execution.interrupt import InterruptReason
from crew.worker.execution.result import Result

logger = logging.getLogger(__name__)

LINES: Final = 50  # per second
EXPECTED: Final = (Outcome.RETURNED, Outcome.CANCELED, Outcome.EXPIRED)  # the task has not failed


class ExecutionLog:
    """Logs the executions of one consumer. Used on the I/O thread only."""

    def __init__(self) -> None:
        self._second_ends = 0.0  # time.monotonic()
        self._lines = 0  # of this second
        self._more: collections.Counter[str] = collections.Counter()  # task -> executions without a line

    def end(self, execution: Execution) -> None:
        """Log the end of `execution`, once: INFO, or WARNING with the traceback if it failed or was interrupted.

        A canceled execution is INFO, as its caller wanted that. One that has not started is not logged.
        """
        times, decisions = execution.times, execution.state.decisions
        if not decisions or times.run_time is None or times.is_logged:
            return
        times.is_logged = True
        if decisions[0].result.outcome not in EXPECTED:
            _log_failure(execution)
        elif logger.isEnabledFor(logging.INFO):
            if self._has_room():
                _log_end(execution)
            else:
                self._more[execution.task.name] += 1

    def flush(self) -> None:
        """Log the number of executions that had no line of their own."""
        for task, count in self._more.items():
            logger.info("executions ended: task=%s count=%d (no line for each above %d per second)", task, count, LINES)
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
    result = execution.result
    logger.info(
        "execution ended: task=%s id=%s seconds=%.3f result=%s",
        execution.task.name,
        execution.call.id,
        execution.times.run_time,
        result and result.outcome,
    )


def _log_failure(execution: Execution) -> None:
    result = execution.result
    assert result is not None
    traceback = execution.interruption.where() if execution.is_interrupted else _traceback(execution.task.name, result)
    logger.warning(
        "execution failed: task=%s id=%s seconds=%.3f result=%s attempt=%d%s%s",
        execution.task.name,
        execution.call.id,
        execution.times.run_time,
        "interrupted" if execution.reason is InterruptReason.DRAIN else result.outcome,
        execution.attempt,
        "" if result.retry_after is None else f" retry_in={result.retry_after:g}",
        Lines(traceback),
    )


def _traceback(task: str, result: Result) -> str:
    """For a URL job only the type of the exception: its message quotes the request, which may hold secrets."""
    failed = failure.decode(result.body.data)
    return failed.type_name if task == topology.HTTP_TASK else failed.traceback
