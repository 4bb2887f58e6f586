"""A constant load of calls while the broker fails, with the result of each call."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from crew import Client
from tests.support.processes import Process

IN_FLIGHT = 50
SECONDS = 0.002  # duration of each call; two workers then run about 500 per second
EXPIRATION = 60.0  # seconds: longer than any fault lasts


class EndedCall(msgspec.Struct, frozen=True):
    """An ended call, with its start and end by time.monotonic()."""

    name: str
    began: float
    ended: float
    result: Any

    @property
    def is_lost(self) -> bool:
        """Whether it ended without its value."""
        return not isinstance(self.result, dict) or self.result.get("name") != self.name


class Load:
    """Calls of the task `note`; each worker prints a line at the start of one.

    Attributes:
        answered: all calls that have ended.
    """

    def __init__(self, client: Client, prefix: str) -> None:
        self.answered: list[EndedCall] = []
        self._client = client
        self._task = prefix + "note"
        self._count = 0
        self._is_over = False
        self._callers = [asyncio.ensure_future(self._call_on()) for _ in range(IN_FLIGHT)]

    async def end(self) -> None:
        """Make no more calls, and wait for the open ones."""
        self._is_over = True
        await asyncio.gather(*self._callers)

    def first_after(self, then: float) -> float | None:
        """When the first successful call among those begun after `then` ended."""
        return min((one.ended for one in self.answered if one.began > then and not one.is_lost), default=None)

    def lost(self) -> list[EndedCall]:
        """Calls that ended without their value."""
        return [one for one in self.answered if one.is_lost]

    def runs(self, workers: Sequence[Process]) -> Counter[str]:
        """The number of runs of each call."""
        lines = [line for worker in workers for line in worker.output.splitlines()]
        starts = Counter(line.removeprefix("STARTED ") for line in lines if line.startswith("STARTED "))
        return Counter({one.name: starts[one.name] for one in self.answered})

    async def _call_on(self) -> None:
        while not self._is_over:
            self._count += 1
            name, began = f"{id(self):x}-{self._count}", time.monotonic()
            data = {"name": name, "seconds": SECONDS}
            try:
                result = await self._client.call(self._task, data, expiration=EXPIRATION)
            except Exception as error:
                result = error
                await asyncio.sleep(0.1)  # else a broker that refuses at once would get a thousand calls per second
            self.answered.append(EndedCall(name, began, time.monotonic(), result))
