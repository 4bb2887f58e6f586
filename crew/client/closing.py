"""Runs the steps of a close in order, also after a step that fails."""

import inspect
import logging
from collections.abc import Callable

logger = logging.getLogger(__name__)


async def run_all(*steps: Callable[[], object]) -> None:
    """Run every step, in order; then raise the first error. Further errors are logged.

    Args:
        steps: functions or coroutine functions.
    """
    first: BaseException | None = None
    for step in steps:
        try:
            if inspect.isawaitable(result := step()):
                await result
        except BaseException as error:  # a canceled close runs the other steps, too
            if first is None:
                first = error
            else:
                logger.error("another step of the close failed: %s: %s", type(error).__name__, error)
    if first is not None:
        raise first
