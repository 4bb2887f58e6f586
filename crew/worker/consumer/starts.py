"""Starts of executions: whether a start is acknowledged or announced to the caller, and doing so."""

from typing import Literal

from crew.worker.consumer.flow_control import FlowControl
from crew.worker.consumer.settlement import Settlement
from crew.worker.execution.execution import Execution
from crew.worker.execution.result import REDELIVERED
from crew.worker.executors.watchdog import Watchdog

Need = Literal["nothing", "acknowledge", "announce"]  # what the I/O thread has to do at the start of an execution


class Starts:
    """Acknowledges and announces the starts of executions.

    Args:
        flow: knows which tasks are quick.
    """

    def __init__(self, settlement: Settlement, flow: FlowControl, watchdog: Watchdog) -> None:
        self._settlement = settlement
        self._flow = flow
        self._watchdog = watchdog

    def need(self, execution: Execution) -> Need:
        """What `handle` will do; any thread may ask.

        A start is announced unless the task is quick. A job that is acknowledged at its start is always announced: it
        is in no queue any more, so if its host died unannounced, its record would wait for ever.
        """
        runs_once = execution.runs_once
        is_quick = self._flow.prefetch[execution.delivery.queue].is_quick and not (runs_once and execution.call.is_job)
        if not is_quick and not execution.is_announced:
            return "announce"
        return "acknowledge" if runs_once and _is_unacknowledged(execution) else "nothing"

    def handle(self, execution: Execution, is_awaited: bool = True) -> None:
        """Acknowledge an execution that runs at most once, and announce it. Called on the I/O thread.

        If it cannot be acknowledged it does not run. It is announced before the task begins, unless the task is quick:
        a task that never releases the GIL could not be announced later.

        Args:
            is_awaited: whether the task begins only after this.
        """
        must_acknowledge = execution.runs_once and _is_unacknowledged(execution)
        if must_acknowledge and not self._settlement.acknowledge_at_start(execution) and is_awaited:
            execution.decide(REDELIVERED)
        elif self.need(execution) == "announce":
            self._settlement.announce(execution)
        self._watchdog.wake_by(execution.limit)


def _is_unacknowledged(execution: Execution) -> bool:
    """Whether its delivery is not acknowledged, and no reply was sent after which it will be."""
    return not execution.is_acknowledged and not execution.is_settled
