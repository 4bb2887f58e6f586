"""Tests one row of the interrupt table in one executor of one worker: results of the callers, end of the process."""

import asyncio
import contextlib
import re
import time
from typing import Any

import msgspec

from crew import Client
from crew.client.calling.call import PendingCall
from tests.support.interrupt_table import sight
from tests.support.interrupt_table.row import FLAGS, SLOTS, Fate, Row
from tests.support.paths import ROOT, TASK_FOLDER
from tests.support.processes import Process, Processes
from tests.support.waiting import until

SCRIPT = TASK_FOLDER / "hanging.py"

GRACE = 0.6  # seconds: the clean-ups of the rows fit in; without a second interrupt, which comes after one second
ROW_EXPIRATION = 0.3  # seconds that a call of a row has
NEXT_EXPIRATION = 15.0  # seconds for the next call: more than it needs, to measure how late a late one is

# The worker's log text for each fate except the first; the most severe first, as the log may have several.
LOG_TEXTS = {
    Fate.KILLED: "worker process stalled, killing it",
    Fate.REPLACED: "replacing worker process: it runs a task that cannot be interrupted",
    Fate.GIVEN_UP: "s after its interrupt call_id=",
}


class Hung(msgspec.Struct, frozen=True, kw_only=True):
    """One call of a hanging task.

    Attributes:
        answer: the result of the call.
        answered: seconds from the deadline to the result.
        seen: milliseconds from the limit until the task saw the interrupt, or None.
        starved: milliseconds until then for which the process of the task waited for a CPU: other load on the machine.
        starts: number of starts of the task.
        is_cleaned_up: whether the task reported the end of its clean-up.
    """

    answer: object
    answered: float
    seen: float | None
    starved: float
    starts: int
    is_cleaned_up: bool


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What a trial has shown.

    Attributes:
        hung: the hanging calls: one, or one per slot if only their end frees a slot.
        served: seconds from the deadline to the result of the next call.
        is_same_process: whether the process of the hanging task ran the next call.
        log: the output of the worker during the trial.
    """

    hung: list[Hung]
    served: float
    is_same_process: bool
    log: str

    @property
    def fate(self) -> Fate:
        """How the task ended, according to the worker's log."""
        return next((fate for fate, text in LOG_TEXTS.items() if text in self.log), Fate.SEEN)


class Bench(msgspec.Struct, frozen=True, kw_only=True):
    """A worker with its own queues, on which rows are tested one after another."""

    executor: str
    prefix: str
    process: Process


def start_bench(processes: Processes, executor: str, *flags: str, prefix: str) -> Bench:
    """Start a worker of `executor`."""
    process = processes.python(
        SCRIPT,
        *("--grace", str(GRACE), "--drain", "1"),
        *FLAGS[executor],
        *flags,
        environment={"PYTHONPATH": str(ROOT), "CREW_TEST_PREFIX": prefix, "CREW_TEST_EXECUTOR": executor},
    )
    return Bench(executor=executor, prefix=prefix, process=process)


async def trial(client: Client, bench: Bench, row: Row, *, timeout: float | None = None) -> Finding:
    """Let `row` hang, then make another call.

    Args:
        timeout: seconds; used for the calls of the row instead of a short expiration.
    """
    before = await client.call(bench.prefix + "who", expiration=NEXT_EXPIRATION)
    start = len(bench.process.output)
    limit = ROW_EXPIRATION if timeout is None else timeout
    expiration = limit if timeout is None else NEXT_EXPIRATION
    began = time.monotonic()
    calls = [
        client.call(bench.prefix + "hang", row.name, timeout=timeout, expiration=expiration)
        for _ in range(_copies(row, bench.executor))
    ]
    answers = await asyncio.gather(*(_answer(call) for call in calls))
    after = await client.call(bench.prefix + "who", expiration=NEXT_EXPIRATION)
    served = time.monotonic() - began - limit
    if row.fates[bench.executor] is Fate.SEEN:
        last = sight.CLEANED if row.cleans_up else sight.SEEN
        with contextlib.suppress(AssertionError):  # the finding shows what is missing
            await until(lambda: all(f"{last} {call.id}" in bench.process.output for call in calls), GRACE)
    log = bench.process.output[start:]
    return Finding(
        hung=[
            Hung(
                answer=answer,
                answered=at - began - limit,
                seen=seen,
                starved=starved,
                starts=len(re.findall(f"{sight.STARTED} {call.id} ", log)),
                is_cleaned_up=f"{sight.CLEANED} {call.id} " in log,
            )
            for call, (answer, at) in zip(calls, answers, strict=True)
            for seen, starved in [_sight(log, call.id)]
        ],
        served=served,
        is_same_process=before == after,
        log=log,
    )


def _copies(row: Row, executor: str) -> int:
    """One call per slot if the hanging calls are abandoned: else the next call would get a free slot."""
    return SLOTS[executor] if row.fates[executor] in (Fate.GIVEN_UP, Fate.REPLACED) else 1


async def _answer(call: PendingCall[Any]) -> tuple[object, float]:
    """The result of `call`, and its time."""
    answer = (await asyncio.gather(call, return_exceptions=True))[0]
    return answer, time.monotonic()


def _sight(log: str, id: str) -> tuple[float | None, float]:
    """`seen` and `starved` of a call."""
    match = re.search(rf"{sight.SEEN} {id} (-?[\d.]+) (-?[\d.]+)", log)
    return (float(match[1]), max(0.0, float(match[2]))) if match else (None, 0.0)
