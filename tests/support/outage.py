"""What has to hold through a loss of the broker, for calls that are in flight when it strikes and until it is over."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import pytest

from crew import Client, ConnectionError, ExpirationError, TimeoutError
from crew.client.calling.call import PendingCall
from crew.client.events.subscription import Event
from tests.support.processes import Process
from tests.support.waiting import until

BACK_WITHIN = 2.0  # seconds from the broker being reachable until the first call succeeds
BUDGET = 40.0  # seconds: more than any outage lasts here
BRIEF = 8.0  # seconds: that of calls which a broker may lose with its life
CALLS = 20
RUNNING = 4  # calls at most: as many as a worker has threads
RUNS = 0.4  # seconds that a task takes which is running when it strikes

Step = Callable[[], object]


class Outage:
    """Makes calls before, during and after an outage, and looks what becomes of them.

    Args:
        prefix: begins the names of the tasks, of a worker that serves `tasks.py` in threads.
        worker: that worker.
    """

    def __init__(self, client: Client, prefix: str, worker: Process, caplog: pytest.LogCaptureFixture) -> None:
        self._client = client
        self._prefix = prefix
        self._worker = worker
        self._caplog = caplog
        self._events: list[Any] = []
        caplog.set_level(logging.DEBUG, logger="crew")

    async def begin(self) -> None:
        """Everything works."""
        await self._client.subscribe(self._prefix + "news", self._hear).ready()
        assert await self._client.call(self._prefix + "echo", "before") == "before"

    async def through(
        self, strike: Step, heal: Step = lambda: None, *, loses: bool = True, is_away: bool = False
    ) -> None:
        """Live through `strike` and `heal`, which run in a thread; the broker can be reached when `heal` returns.

        Args:
            loses: whether connections break, so that what is not persistent may be lost, with an error.
            is_away: whether the broker is away for more than a second after `strike`.
        """
        running = [self._call("sleep", RUNS) for _ in range(RUNNING)]
        await asyncio.sleep(RUNS / 2)
        sending = [self._call("echo", number) for number in range(CALLS)]
        transient = [self._call("echo", number, persistent=False, expiration=BRIEF) for number in range(CALLS)]
        await asyncio.to_thread(strike)
        waiting = [self._call("echo", number) for number in range(CALLS)]
        if is_away:
            await self._expires()
        await asyncio.to_thread(heal)
        await self._is_back()
        assert await asyncio.gather(*running) == [RUNS] * RUNNING
        assert await asyncio.gather(*sending) == list(range(CALLS))
        assert await asyncio.gather(*waiting) == list(range(CALLS))
        await _end_in(transient, (ConnectionError, TimeoutError, ExpirationError) if loses else ())
        await self._hears()
        self._logs_are_clean()

    def _call(self, task: str, data: Any, *, persistent: bool = True, expiration: float = BUDGET) -> PendingCall[Any]:
        return self._client.call(self._prefix + task, data, persistent=persistent, expiration=expiration)

    async def _expires(self) -> None:
        """A call whose budget is over before the broker is back ends at its deadline."""
        began = time.monotonic()
        with pytest.raises(ExpirationError):
            await self._call("echo", "late", expiration=1)
        assert 1 <= time.monotonic() - began < 1.5

    async def _is_back(self) -> None:
        began = time.monotonic()
        assert await self._call("echo", "after") == "after"
        assert time.monotonic() - began < BACK_WITHIN

    async def _hears(self) -> None:
        self._events.clear()
        await self._client.publish(self._prefix + "news", "here")
        await until(lambda: "here" in self._events)

    def _hear(self, event: Event) -> None:
        self._events.append(event.payload)

    def _logs_are_clean(self) -> None:
        assert "Traceback" not in self._worker.own_output, self._worker.output
        assert not [record.getMessage() for record in self._caplog.records if record.exc_info]


async def _end_in(calls: list[PendingCall[Any]], errors: tuple[type[Exception], ...]) -> None:
    """Each has its value, or one of `errors`."""
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert all(answer == number or isinstance(answer, errors) for number, answer in enumerate(answers)), answers
