"""Which calls are not run, and what they come to instead."""

import socket
import time
from typing import Final

from crew.protocol import deadline
from crew.protocol.failure import Failure
from crew.protocol.message import Call, Outcome
from crew.worker import death
from crew.worker.ended import Ended, ended_with, out_of_time, timed_out, worker_lost
from crew.worker.ledger import OVERDUE
from crew.worker.reason import Reason

MAX_DELIVERIES: Final = 3  # of a call that takes its worker process down with it


def refusal(
    call: Call, crashes: int, canceled: Reason | None, *, is_long: bool = False, exit_status: str = ""
) -> Ended | None:
    """Why `call` must not be run, or None.

    Args:
        crashes: how often a worker process of this host has died while it ran the call.
        canceled: why nobody wants its answer any longer, where that is so.
        is_long: whether its task is one whose calls end their delivery with their start.
        exit_status: how the last of these processes ended, as `death.exit_status` has it.
    """
    if canceled is not None:
        told = Failure(type_name="Canceled", message=f"call {call.id} of task {call.task!r} was cancelled")
        return ended_with(Outcome.CANCELED, told)
    if crashes == OVERDUE:
        message = f"task {call.task!r} could not be interrupted, and its worker process was killed"
        return timed_out(message)
    if deadline.is_past(call.deadline, time.time()):
        return out_of_time(call)
    if crashes >= MAX_DELIVERIES:
        last = f"; the last {death.told(exit_status)} on {socket.gethostname()}" if exit_status else ""
        return worker_lost(f"{crashes} worker processes died while they ran {call.task!r}{last}")
    if crashes and (is_long or not call.persistent):
        kind = ", a long task," if is_long else " that is not persistent"
        how = death.told(exit_status) if exit_status else "died"
        return worker_lost(f"its worker process {how}, and a call of {call.task!r}{kind} is not run twice")
    return None
