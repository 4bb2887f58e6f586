"""One row of the table of interrupts, tried in one executor of one worker: what its callers and its process came to."""

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
NEXT_EXPIRATION = 15.0  # seconds that the next call has: more than it may need, so that a late one says how late

# What a worker says of each fate but the first; of several, the weightiest first.
SAID = {
    Fate.KILLED: "worker process stalled, killing it",
    Fate.REPLACED: "replacing worker process: it runs a task that cannot be interrupted",
    Fate.GIVEN_UP: "s after its interrupt call_id=",
}


class Hung(msgspec.Struct, frozen=True, kw_only=True):
    """One call of a task that hung.

    Attributes:
        answer: what its caller got.
        answered: seconds after the deadline.
        seen: milliseconds after its limit at which the task saw the interrupt, or None.
        starts: how often the task began.
        is_cleaned_up: whether it has told so.
    """

    answer: object
    answered: float
    seen: float | None
    starts: int
    is_cleaned_up: bool


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What a trial has shown.

    Attributes:
        hung: the calls that did: as many as the executor has slots, where only their end makes room.
        served: seconds after the deadline at which the next call was answered.
        is_same_process: whether that was by the process in which the task hung.
        log: what the worker said meanwhile.
    """

    hung: list[Hung]
    served: float
    is_same_process: bool
    log: str

    @property
    def fate(self) -> Fate:
        """What became of the task, as the worker's log has it."""
        return next((fate for fate, said in SAID.items() if said in self.log), Fate.SEEN)


class Bench(msgspec.Struct, frozen=True, kw_only=True):
    """A worker with queues of its own, on which one row after another is tried."""

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
        timeout: seconds; the calls of the row have it instead of a short expiration.
    """
    before = await client.call(bench.prefix + "who", expiration=NEXT_EXPIRATION)
    said = len(bench.process.output)
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
        with contextlib.suppress(AssertionError):  # what is missing is missing in the finding
            await until(lambda: all(f"{last} {call.id}" in bench.process.output for call in calls), GRACE)
    log = bench.process.output[said:]
    return Finding(
        hung=[
            Hung(
                answer=answer,
                answered=at - began - limit,
                seen=_milliseconds(log, sight.SEEN, call.id),
                starts=len(re.findall(f"{sight.STARTED} {call.id} ", log)),
                is_cleaned_up=f"{sight.CLEANED} {call.id} " in log,
            )
            for call, (answer, at) in zip(calls, answers, strict=True)
        ],
        served=served,
        is_same_process=before == after,
        log=log,
    )


def _copies(row: Row, executor: str) -> int:
    """One for each slot where they must be given up: else the next call would have another one."""
    return SLOTS[executor] if row.fates[executor] in (Fate.GIVEN_UP, Fate.REPLACED) else 1


async def _answer(call: PendingCall[Any]) -> tuple[object, float]:
    """What `call` came to, and when."""
    answer = (await asyncio.gather(call, return_exceptions=True))[0]
    return answer, time.monotonic()


def _milliseconds(log: str, word: str, id: str) -> float | None:
    match = re.search(rf"{word} {id} (-?[\d.]+)", log)
    return float(match[1]) if match else None
