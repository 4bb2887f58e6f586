"""A gateway that kills itself in the middle of a step. It submits JOBS jobs, and dies when it takes the step for the
SECOND time. It prints each accepted job.

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
LEASE = 0.5  # seconds: short, so that another gateway takes over soon
FLUSHED_WITHIN = 0.2  # seconds in which a message reaches the broker

Step = Callable[..., Awaitable[Any]]


def dies_before(real: Step) -> Step:
    """Die before the step."""
    return _at_the_second_time(real, lambda *arguments: asyncio.sleep(0))


def dies_after(real: Step) -> Step:
    """Die after the step."""
    return _at_the_second_time(real, real)


def dies_unconfirmed(real: Step) -> Step:
    """Die when the step has sent its message, before the confirm."""

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
    """Submit jobs one after another; print each accepted job, and wait for its result."""
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
