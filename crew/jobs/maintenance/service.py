"""The contract of a maintenance service: start, stop, and one step that is run once per interval."""

import abc
import asyncio
import logging
from typing import Final

from crew.errors import ConnectionError, CrewError

logger = logging.getLogger(__name__)

INTERVAL: Final = 1.0  # seconds between two steps


class Service(abc.ABC):
    """Runs `step` at once, then once per interval. A step that fails is logged, and the next one is its retry.

    Args:
        interval: seconds between two steps.
    """

    def __init__(self, *, interval: float = INTERVAL) -> None:
        self._interval = interval
        self._wake_up = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {'running' if self._task else 'not running'}>"

    @property
    def name(self) -> str:
        """Its name in the log, like "expire"."""
        return type(self).__name__.lower()

    def start(self) -> None:
        """Start the loop; idempotent."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name=f"job maintenance: {self.name}")

    async def stop(self) -> None:
        """Stop the loop, also in the middle of a step; idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    def wake(self) -> None:
        """Run a step now, or another one after the current step."""
        self._wake_up.set()

    @abc.abstractmethod
    async def step(self) -> None:
        """Do what is due now. An error ends the step only."""

    async def _run(self) -> None:
        while True:
            self._wake_up.clear()  # before the step: a wake-up during the step starts another one
            await self._step_or_log()
            try:
                async with asyncio.timeout(self._interval):
                    await self._wake_up.wait()
            except TimeoutError:
                continue

    async def _step_or_log(self) -> None:
        try:
            await self.step()
        except ConnectionError as error:  # the store or the link logs an outage, once
            logger.debug("job maintenance failed, retrying in %g s: step=%s: %s", self._interval, self.name, error)
        except CrewError as error:
            logger.warning("job maintenance failed, retrying in %g s: step=%s: %s", self._interval, self.name, error)
        except Exception:
            logger.exception("job maintenance failed, retrying in %g s: step=%s", self._interval, self.name)
