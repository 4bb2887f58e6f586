"""Which calls are not run, and what they come to instead."""

import time
from typing import Final

from crew.protocol import deadline
from crew.protocol.failure import Failure
from crew.protocol.message import Call, Outcome
from crew.worker.ended import Ended, ended_with, out_of_time, timed_out, worker_lost
from crew.worker.ledger import OVERDUE
from crew.worker.reason import Reason

MAX_DELIVERIES: Final = 3  # of a call that takes its worker process down with it


def refusal(call: Call, crashes: int, canceled: Reason | None) -> Ended | None:
    """Why `call` must not be run, or None."""
    if canceled is not None:
        told = Failure(type_name="Canceled", message=f"call {call.id} of task {call.task!r} was cancelled")
        return ended_with(Outcome.CANCELED, told)
    if crashes == OVERDUE:
        message = f"task {call.task!r} could not be interrupted, and its worker process was killed"
        return timed_out(message)
    if deadline.is_past(call.deadline, time.time()):
        return out_of_time(call)
    if crashes >= MAX_DELIVERIES:
        return worker_lost(f"{crashes} worker processes died while they ran {call.task!r}")
    if crashes and not call.persistent:
        message = f"its worker process died, and a call of {call.task!r} that is not persistent is not run twice"
        return worker_lost(message)
    return None
