"""What an answer to a call needs when the process that ran it has died, and nobody runs it again.

A call that is acknowledged when it starts is delivered no second time: without an obituary its caller would hear
nothing until his deadline. It is written into the ledger when the call starts; when the process has died, the
supervisor tells another one, which has a connection, to look there.
"""

from typing import Final

import msgspec

from crew.protocol.message import Call, Run
from crew.worker.execution.result import NO_BODY, Result, timed_out, worker_lost
from crew.worker.shared_state.exit_status import describe_exit

SIZE: Final = 1169  # bytes: three short strings of AMQP, the names of a task and a host, and what tells them apart


class LostCall(msgspec.Struct, frozen=True, array_like=True):
    """One call that died with its process.

    Attributes:
        status: how that process ended, as `exit_status_of` returns it.
        is_overdue: whether the process was killed because this call went on too long.
        run: where it was a job, its execution as far as it went.
    """

    id: str
    task: str
    reply_to: str
    message_id: str | None
    persistent: bool
    status: str = ""
    is_overdue: bool = False
    run: Run | None = None

    @property
    def call(self) -> Call:
        """As much of the call as its answer needs."""
        return Call(
            id=self.id,
            task=self.task,
            body=NO_BODY,
            reply_to=self.reply_to,
            message_id=self.message_id,
            persistent=self.persistent,
            is_job=self.run is not None,
        )

    def ended(self, host: str) -> Result:
        """What the call came to."""
        if self.is_overdue:
            return timed_out(f"task {self.task!r} could not be interrupted, and its worker process was killed")
        return worker_lost(
            f"the worker process that ran {self.task!r} on {host} {describe_exit(self.status)}, and the call is not run"
            " twice: its delivery had ended with its start"
        )


def written(call: Call, run: Run | None = None) -> bytes:
    """`call` as an obituary, not longer than SIZE; b"" where nobody waits for an answer.

    Args:
        run: where it is a job, the execution that begins.
    """
    if call.reply_to is None:
        return b""
    found = LostCall(call.id, call.task, call.reply_to, call.message_id, call.persistent, run=run)
    data = msgspec.msgpack.encode(found)
    return data if len(data) <= SIZE else b""  # then its caller has his deadline


def read(data: bytes, *, status: str, is_overdue: bool) -> LostCall:
    """The obituary that `written` has made, of a process that ended with `status`."""
    found = msgspec.msgpack.decode(data, type=LostCall)
    return msgspec.structs.replace(found, status=status, is_overdue=is_overdue)
