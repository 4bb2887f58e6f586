"""What runs longer than the broker lets a delivery wait for its acknowledgement."""

import logging
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from crew.protocol.message import Call
from crew.worker.task import MAX_TIMEOUT, Task

if TYPE_CHECKING:
    from crew.worker.execution.execution import Execution

logger = logging.getLogger(__name__)


def runs_once(call: Call, task: Task) -> bool:
    """Whether the delivery of `call` ends with its start, so that nobody runs it again when its process dies.

    A job has no deadline: without a timeout it may run for ever.
    """
    if task.long or not call.persistent:
        return True
    timeouts = [timeout for timeout in (call.timeout, task.timeout) if timeout is not None]
    return call.is_job and min(timeouts, default=math.inf) > MAX_TIMEOUT


def tell_of(running: "Iterable[Execution]", patience: float, *, now: float) -> None:
    """Say what to do about those among `running` over which the broker has closed a channel.

    Args:
        patience: seconds that a delivery may wait.
        now: time.monotonic().
    """
    for execution in running:
        ran = now - (execution.started or now)
        if ran >= patience and not execution.is_acked:
            name = execution.task.name
            logger.error(
                "task %r runs for %.0f s, and after %g s without an acknowledgement the broker delivers a call again: "
                "write @Task(%r, long=True), or give it a smaller timeout",
                name,
                ran,
                patience,
                name,
            )
