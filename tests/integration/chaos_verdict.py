"""What was promised, compared with what the callers saw and the tasks wrote down: each breach is one sentence."""

import asyncio
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

import crew
from tests.integration.chaos import Ended
from tests.integration.chaos_plan import Planned
from tests.integration.chaos_record import Record, Run

ENDS_WITHIN: Final = 0.5  # seconds after its deadline, a call
GRACE: Final = 1.0  # seconds: `--grace` of the workers
GONE_WITHIN: Final = 1.0  # seconds after deadline and grace, a run
HEARD_WITHIN: Final = 1.0  # seconds after a cancel
AGAIN_WITHIN: Final = 1.0  # seconds after the death of the process in which it ran
NEVER_FULL: Final = ("async",)  # lanes
FAILURES: Final = (crew.TimeoutError, crew.ExpirationError, crew.WorkerLost)


def breaches(calls: Sequence[Ended], record: Record) -> list[str]:
    """Everything that was not as promised."""
    runs: dict[str, list[Run]] = defaultdict(list)
    for run in record.runs.values():
        runs[run.id].append(run)
    of_calls = [f"{what}: {call}; {runs[call.planned.id]}" for call in calls for what in _of_call(call, runs, record)]
    planned = {call.planned.id: call.planned for call in calls}
    of_runs = [f"{what}: {run}" for run in record.runs.values() for what in _of_run(run, planned[run.id], record)]
    return of_calls + of_runs


def _of_call(call: Ended, runs: dict[str, list[Run]], record: Record) -> Iterator[str]:
    planned, own = call.planned, runs[call.planned.id]
    if not _is_honest(call):
        yield f"answered with {call.answer!r}"
    if (late := call.ended - call.began - planned.expiration) > ENDS_WITHIN + call.starved:
        yield f"ended {late:.2f} s after its deadline"
    if call.called_back is not None and [id(answer) for answer in call.called_back] != [id(call.answer)]:
        yield "called back with something else than who awaited it got"
    if call.answer == planned.id and not own:
        yield "has a value, and never ran"
    if not planned.persistent and len(own) > 1:
        yield f"is not persistent, and ran {len(own)} times"
    if planned.persistent and call.canceled is None:
        yield from _of_lost(call, own, record)
    if call.canceled is not None:
        yield from _of_canceled(call, call.canceled, own, record)


def _is_honest(call: Ended) -> bool:
    """Whether the answer is one that may be given."""
    if call.canceled is not None:
        return isinstance(call.answer, asyncio.CancelledError if call.planned.cancel == "task" else crew.Canceled)
    match call.answer:
        case crew.TaskFailed(type_name="LookupError"):
            return call.planned.kind == "fail"
        case str(value):
            return value == call.planned.id and call.planned.kind not in ("fail", "die", "stubborn")
    return isinstance(call.answer, FAILURES)


def _of_canceled(call: Ended, canceled: float, runs: list[Run], record: Record) -> Iterator[str]:
    for run in runs:
        # A process that serves since a later moment has missed the cancel; it is told when it says that it has started.
        has_heard = record.lives[run.pid].serves_since < canceled
        if has_heard and run.started > canceled + HEARD_WITHIN:
            yield f"started {run.started - canceled:.2f} s after its cancel"
        stopped = record.stop_of(run)
        late = math.inf if stopped is None else stopped - max(canceled, run.started)
        if call.planned.is_interruptible and late > HEARD_WITHIN:
            yield f"went on for {late:.2f} s after its cancel"


def _of_lost(call: Ended, runs: list[Run], record: Record) -> Iterator[str]:
    """Where the lane has a free slot at any time: what its process took with it has begun again, or was given up."""
    last = max(runs, key=lambda run: run.started, default=None)
    if last is None or last.ended is not None or call.planned.lane not in NEVER_FULL:
        return
    died = record.lives[last.pid].died or math.inf
    if call.ended > died + AGAIN_WITHIN:
        yield f"was not run again in the {call.ended - died:.2f} s between the death of its process and its end"


def _of_run(run: Run, planned: Planned, record: Record) -> Iterator[str]:
    ended = record.end_of(run)
    if ended is None:
        yield "never ended"
    elif (late := ended - _gone_by(run, planned)) > GONE_WITHIN:
        yield f"ended {late:.2f} s after its deadline and grace"


def _gone_by(run: Run, planned: Planned) -> float:
    """Its deadline and grace; a thread in one blocking call may go on without a slot (`--zombies`) until it returns."""
    deadline = run.limit + GRACE
    return max(deadline, run.started + planned.seconds) if planned.is_zombie else deadline
