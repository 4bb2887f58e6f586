"""Checks the guarantees during a loss of the broker, for calls in flight before, during and after it."""

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

BACK_WITHIN = 2.0  # seconds from the return of the broker until the first call succeeds
EXPIRATION = 40.0  # seconds: longer than any outage here
SHORT_EXPIRATION = 8.0  # seconds; for calls that a dying broker may lose
CALLS = 20
RUNNING = 4  # number of running calls: as many as a worker has threads
RUN_TIME = 0.4  # seconds of a task that runs when the outage begins

Step = Callable[[], object]


class Outage:
    """Makes calls before, during and after an outage, and checks their results.

    Args:
        prefix: of the task names of the worker.
        worker: serves `tasks.py` in threads.
    """

    def __init__(self, client: Client, prefix: str, worker: Process, caplog: pytest.LogCaptureFixture) -> None:
        self._client = client
        self._prefix = prefix
        self._worker = worker
        self._caplog = caplog
        self._events: list[Any] = []
        caplog.set_level(logging.DEBUG, logger="crew")

    async def begin(self) -> None:
        """Check that everything works before the outage."""
        await self._client.subscribe(self._prefix + "news", self._on_event).ready()
        assert await self._client.call(self._prefix + "echo", "before") == "before"

    async def through(
        self, fail: Step, heal: Step = lambda: None, *, loses: bool = True, is_away: bool = False
    ) -> None:
        """Run `fail` and `heal` in a thread, with calls in flight. The broker is reachable when `heal` returns.

        Args:
            loses: whether connections break, so that calls that are not persistent may end with an error.
            is_away: whether the broker is unavailable for more than a second after `fail`.
        """
        running = [self._call("sleep", RUN_TIME) for _ in range(RUNNING)]
        await asyncio.sleep(RUN_TIME / 2)
        sending = [self._call("echo", number) for number in range(CALLS)]
        transient = [
            self._call("echo", number, persistent=False, expiration=SHORT_EXPIRATION) for number in range(CALLS)
        ]
        await asyncio.to_thread(fail)
        waiting = [self._call("echo", number) for number in range(CALLS)]
        if is_away:
            await self._check_expiration()
        await asyncio.to_thread(heal)
        await self._check_recovery()
        assert await asyncio.gather(*running) == [RUN_TIME] * RUNNING
        assert await asyncio.gather(*sending) == list(range(CALLS))
        assert await asyncio.gather(*waiting) == list(range(CALLS))
        await _end_in(transient, (ConnectionError, TimeoutError, ExpirationError) if loses else ())
        await self._check_events()
        self._check_logs()

    def _call(
        self, task: str, payload: Any, *, persistent: bool = True, expiration: float = EXPIRATION
    ) -> PendingCall[Any]:
        return self._client.call(self._prefix + task, payload, persistent=persistent, expiration=expiration)

    async def _check_expiration(self) -> None:
        """A call that expires before the broker is back ends at its deadline."""
        began = time.monotonic()
        with pytest.raises(ExpirationError):
            await self._call("echo", "late", expiration=1)
        assert 1 <= time.monotonic() - began < 1.5

    async def _check_recovery(self) -> None:
        began = time.monotonic()
        assert await self._call("echo", "after") == "after"
        assert time.monotonic() - began < BACK_WITHIN

    async def _check_events(self) -> None:
        self._events.clear()
        await self._client.publish(self._prefix + "news", "here")
        await until(lambda: "here" in self._events)

    def _on_event(self, event: Event) -> None:
        self._events.append(event.payload)

    def _check_logs(self) -> None:
        assert "Traceback" not in self._worker.own_output, self._worker.output
        assert not [record.getMessage() for record in self._caplog.records if record.exc_info]


async def _end_in(calls: list[PendingCall[Any]], errors: tuple[type[Exception], ...]) -> None:
    """Assert that each call has its value, or one of `errors`."""
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert all(answer == number or isinstance(answer, errors) for number, answer in enumerate(answers)), answers
