"""The execution of a job, as its record has it: every reply to a job carries it, and no other reply does."""

import os
import socket
import time
from typing import TYPE_CHECKING

import msgspec

from crew.protocol.message import Call, Run

if TYPE_CHECKING:
    from crew.worker.execution.execution import Execution


def begun(execution: "Execution") -> Run | None:
    """`execution`, which runs here; None where its call is no job."""
    if not execution.call.is_job:
        return None
    return Run(
        host=here(),
        started=execution.started_at,
        attempt=execution.attempt,
        is_only_one=execution.runs_once,
        progress_count=execution.said.sent,
    )


def ended(execution: "Execution") -> Run | None:
    """`execution` at its end; of one that was interrupted, and may still clean up, that is now."""
    run = begun(execution)
    if run is None or execution.started_at is None:
        return run
    took = execution.run_time
    end = execution.call.sender_time(time.time()) if took is None else execution.started_at + took
    return msgspec.structs.replace(run, ended=end)


def of_refusal(call: Call, executions: int) -> Run | None:
    """That `call` ends here and now without being run; None where it is no job.

    Args:
        executions: of it that were begun before.
    """
    ended = call.sender_time(time.time())
    return Run(host=here(), ended=ended, attempt=max(1, executions)) if call.is_job else None


def here() -> str:
    """This process, as "host:pid"."""
    return f"{socket.gethostname()}:{os.getpid()}"
