"""A gateway that is killed in the middle of a step: JOBS jobs are submitted, and at the SECOND time it takes the step,
nothing of it goes on. What it has accepted until then it has printed.

    python crashing.py STORE_URL TASK STEP
"""

import asyncio
import importlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from crew import Client
from crew.jobs import JobService, JobStore
from crew.jobs.publisher import Publisher

JOBS = 4
SECOND = 2
LEASE = 0.5  # seconds: whoever takes over need not wait for long
FLUSHED_WITHIN = 0.2  # seconds in which a message is at the broker, and its confirm on its way back

Step = Callable[..., Awaitable[Any]]


def dies_before(real: Step) -> Step:
    """`real`, which is not begun any more."""
    return _at_the_second_time(real, lambda *arguments: asyncio.sleep(0))


def dies_after(real: Step) -> Step:
    """`real`, whose end nobody hears of any more."""
    return _at_the_second_time(real, real)


def dies_unconfirmed(real: Step) -> Step:
    """`real`, which has sent its message."""

    async def sent(*arguments: Any) -> None:
        publishing = asyncio.ensure_future(real(*arguments))
        await asyncio.wait([publishing], timeout=FLUSHED_WITHIN)

    return _at_the_second_time(real, sent)


def _at_the_second_time(real: Step, last: Step) -> Step:
    times = 0

    async def step(*arguments: Any) -> Any:
        nonlocal times
        times += 1
        if times < SECOND:
            return await real(*arguments)
        await last(*arguments)
        return os.kill(os.getpid(), signal.SIGKILL)

    return step


STEPS: dict[str, tuple[type, str, Callable[[Step], Step]]] = {
    "before the record": (JobStore, "insert", dies_before),
    "between record and publish": (Publisher, "publish", dies_before),
    "before the confirm": (Publisher, "_publish", dies_unconfirmed),
    "before the answer": (JobService, "submit_specification", dies_after),
    "between event and commit": (JobStore, "apply_each", dies_before),
    "between commit and ack": (JobStore, "apply_each", dies_after),
}


async def main(store: str, task: str, step: str) -> None:
    """Submit jobs one after another; say of each that it was accepted, and wait for it."""
    where, name, dying = STEPS[step]
    setattr(where, name, dying(getattr(where, name)))
    vars(importlib.import_module("crew.jobs.specification"))["LEASE"] = LEASE
    async with Client(store=JobStore(store)) as client:
        for _ in range(JOBS):
            handle = await client.submit(task)
            print("ACCEPTED", handle.id, flush=True)
            await handle.result()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
