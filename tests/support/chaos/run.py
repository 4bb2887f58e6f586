"""Runs the chaos test: makes the calls, cancels some, kills processes, and records the result of each call."""

import asyncio
import functools
import random
import time
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from crew import Client, CrewError
from crew.client.calling.call import PendingCall
from tests.support.chaos.plan import Planned
from tests.support.chaos.record import Record
from tests.support.starvation import Starvation

IN_FLIGHT: Final = 300  # maximum number of concurrent calls
KILL_EVERY: Final = (0.15, 0.5)  # seconds
LOOK_EVERY: Final = 0.05  # seconds


class Ended(msgspec.Struct, kw_only=True):
    """An ended call, as its caller saw it. Times are time.monotonic().

    Attributes:
        starved: seconds between its deadline and its end for which the caller's process had no CPU.
        canceled: when the call was canceled before its end, or None.
        answer: its value, or the exception.
        called_back: values passed to its callback; None if it had no callback.
    """

    planned: Planned
    began: float
    ended: float = 0.0
    starved: float = 0.0
    canceled: float | None = None
    answer: Any = None
    called_back: list[Any] | None = None


class Chaos:
    """Makes calls with `client`, and kills random processes of `record`.

    Args:
        prefix: of the task names.
    """

    def __init__(self, client: Client, record: Record, dice: random.Random, *, prefix: str) -> None:
        self._client = client
        self._record = record
        self._dice = dice
        self._prefix = prefix
        self._room = asyncio.Semaphore(IN_FLIGHT)
        self._starvation = Starvation()
        self._kill_at = time.monotonic() + KILL_EVERY[1]

    async def run(self, plan: Sequence[Planned]) -> list[Ended]:
        """Make the calls of `plan`; returns when all have ended."""
        looking = asyncio.create_task(self._look())
        ended = await asyncio.gather(*map(self._call, plan))
        assert not looking.done(), looking.exception()
        looking.cancel()
        self._starvation.look()
        for one in ended:
            one.starved = self._starvation.between(one.began + one.planned.expiration, one.ended)
        return ended

    async def _look(self) -> None:
        while True:
            self._starvation.look()
            self._record.look()
            busy = self._record.busy()
            if time.monotonic() > self._kill_at and busy:
                self._kill_at = time.monotonic() + self._dice.uniform(*KILL_EVERY)
                self._record.kill(self._dice.choice(busy))
            await asyncio.sleep(LOOK_EVERY)

    async def _call(self, planned: Planned) -> Ended:
        async with self._room:
            ended = Ended(planned=planned, began=time.monotonic())
            call = self._begin(planned, ended)
            waiting = asyncio.create_task(_answer(call))
            if planned.cancel is not None:
                cancel = functools.partial(_cancel, ended, call, waiting)
                asyncio.get_running_loop().call_later(planned.cancel_after, cancel)
            await asyncio.wait([waiting])
            ended.ended = time.monotonic()
            ended.answer = asyncio.CancelledError() if waiting.cancelled() else waiting.result()
        return ended

    def _begin(self, planned: Planned, ended: Ended) -> PendingCall[Any]:
        # A call with a callback would continue after the task that awaits it is canceled.
        answers = ended.called_back = None if planned.cancel == "task" else []
        return self._client.call(
            self._prefix + planned.executor,
            {"kind": planned.kind, "seconds": planned.seconds},
            id=planned.id,
            expiration=planned.expiration,
            timeout=planned.timeout,
            priority=planned.priority,
            persistent=planned.persistent,
            callback=None if answers is None else lambda answer, _: answers.append(answer),
        )


async def _answer(call: PendingCall[Any]) -> Any:
    try:
        return await call
    except CrewError as error:
        return error


def _cancel(ended: Ended, call: PendingCall[Any], waiting: "asyncio.Task[Any]") -> None:
    if not call.done():
        ended.canceled = time.monotonic()
        if ended.planned.cancel == "task":
            waiting.cancel()
        else:
            call.cancel()
