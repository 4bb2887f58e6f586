"""Tasks that run longer than the broker lets a delivery wait for its acknowledgement."""

import logging
from collections.abc import Iterable

from crew.worker.execution import Execution

logger = logging.getLogger(__name__)


def tell_of(running: Iterable[Execution], patience: float, *, now: float) -> None:
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
