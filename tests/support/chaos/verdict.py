"""Compares the results of the callers and the record of the tasks with crew's guarantees."""

import asyncio
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

import crew
from tests.support.chaos.plan import Planned
from tests.support.chaos.record import Record, Run
from tests.support.chaos.run import Ended

ENDS_WITHIN: Final = 0.5  # seconds from the deadline of a call to its end
GRACE: Final = 1.0  # seconds: `--grace` of the workers
GONE_WITHIN: Final = 1.0  # seconds from deadline and grace to the end of a run
CANCELED_WITHIN: Final = 1.0  # seconds from a cancel to its effect
UNREAD_WITHIN: Final = 1.0  # seconds until the broker has read an acknowledgement, on a busy machine
AGAIN_WITHIN: Final = 1.0  # seconds from the death of a process to the next run of its call
NEVER_FULL: Final = ("async",)  # executors
FAILURES: Final = (crew.TimeoutError, crew.ExpirationError, crew.WorkerLost)


class Breach(msgspec.Struct, frozen=True):
    """A violated guarantee, as text.

    A guaranteed time does not include the time for which the processes concerned waited for a CPU.
    """

    text: str

    def of(self, subject: Ended | Run, *more: Run) -> "Breach":
        """The same with the call or the runs to which it applies."""
        return msgspec.structs.replace(self, text="; ".join(map(str, (f"{self.text}: {subject}", *more))))


def breaches(calls: Sequence[Ended], record: Record) -> list[Breach]:
    """All violated guarantees."""
    runs: dict[str, list[Run]] = defaultdict(list)
    for run in record.runs.values():
        runs[run.id].append(run)
    of_calls = [found.of(call, *runs[call.planned.id]) for call in calls for found in _of_call(call, runs, record)]
    planned = {call.planned.id: call.planned for call in calls}
    of_runs = [found.of(run) for run in record.runs.values() for found in _of_run(run, planned[run.id], record)]
    return of_calls + of_runs


def _of_call(call: Ended, runs: dict[str, list[Run]], record: Record) -> Iterator[Breach]:
    planned, own = call.planned, runs[call.planned.id]
    if not _is_possible(call):
        yield Breach(f"its result is {call.answer!r}")
    if (seconds := call.ended - call.began - planned.expiration) > ENDS_WITHIN + call.starved:
        yield Breach(f"ended {seconds:.2f} s after its deadline")
    if call.called_back is not None and [id(answer) for answer in call.called_back] != [id(call.answer)]:
        yield Breach("its callback got another value than the task that awaited it")
    if call.answer == planned.id and not own:
        yield Breach("has a value, but never ran")
    if not planned.persistent and len(own) > 1 and not _may_lose_its_acknowledgement(own, record):
        yield Breach(f"is not persistent, but ran {len(own)} times")
    if planned.persistent and call.canceled is None:
        yield from _of_lost(call, own, record)
    if call.canceled is not None:
        yield from _of_canceled(call, call.canceled, own, record)


def _may_lose_its_acknowledgement(runs: list[Run], record: Record) -> bool:
    """Whether each earlier run began shortly before its process was killed.

    Linux resets the connection of a process that dies with unread bytes in a socket. The broker may then discard an
    unread acknowledgement, and deliver the call again.
    """
    died = [record.lives[run.pid].died for run in runs]
    return all(
        end is not None and end - run.started < UNREAD_WITHIN for run, end in list(zip(runs, died, strict=True))[:-1]
    )


def _is_possible(call: Ended) -> bool:
    """Whether the result is possible for this call."""
    if call.canceled is not None:
        return isinstance(call.answer, asyncio.CancelledError if call.planned.cancel == "task" else crew.Canceled)
    match call.answer:
        case crew.TaskFailed(type_name="LookupError"):
            return call.planned.kind == "fail"
        case str(value):
            return value == call.planned.id and call.planned.kind not in ("fail", "die", "stubborn")
    return isinstance(call.answer, FAILURES)


def _of_canceled(call: Ended, canceled: float, runs: list[Run], record: Record) -> Iterator[Breach]:
    for run in runs:
        # A process that began to serve later has missed the cancel; the answer to its start report repeats the cancel.
        has_received = record.lives[run.pid].serves_since < canceled
        starved = record.starved(run.pid, canceled, run.started)
        if has_received and (seconds := run.started - canceled - starved) > CANCELED_WITHIN:
            yield Breach(f"started {seconds:.2f} s after its cancel")
        since, stopped = max(canceled, run.started), record.stop_of(run)
        seconds = math.inf if stopped is None else stopped - since - record.starved(run.pid, since, stopped)
        if call.planned.is_interruptible and seconds > CANCELED_WITHIN:
            yield Breach(f"went on for {seconds:.2f} s after its cancel")


def _of_lost(call: Ended, runs: list[Run], record: Record) -> Iterator[Breach]:
    """If the executor always has a free slot, a call lost with its process must be run again, or end with an error."""
    last = max(runs, key=lambda run: run.started, default=None)
    if last is None or last.ended is not None or call.planned.executor not in NEVER_FULL:
        return
    died = record.lives[last.pid].died or math.inf
    if (seconds := call.ended - died - record.starved(None, died, call.ended)) > AGAIN_WITHIN:
        yield Breach(f"was not run again in the {seconds:.2f} s between the death of its process and its end")


def _of_run(run: Run, planned: Planned, record: Record) -> Iterator[Breach]:
    ended, due = record.end_of(run), _gone_by(run, planned)
    if ended is None:
        yield Breach("never ended")
    elif (seconds := ended - due - record.starved(run.pid, due, ended)) > GONE_WITHIN:
        yield Breach(f"ended {seconds:.2f} s after its deadline and grace")


def _gone_by(run: Run, planned: Planned) -> float:
    """When the run must have ended: deadline and grace; a thread in one blocking call may go on (`--zombies`)."""
    deadline = run.limit + GRACE
    return max(deadline, run.started + planned.seconds) if planned.is_zombie else deadline
