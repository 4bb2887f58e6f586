"""Lost calls: what a reply to a call needs after the process that ran the call has died.

The broker does not redeliver a call that was acknowledged when it started. Without this record its caller would wait
until the deadline. The record is written into the shared state when the call starts. When the process dies, the
supervisor asks another process, which has a connection, to send the reply.
"""

from typing import Final

import msgspec

from crew.protocol.message import Call, Run
from crew.worker.execution.result import NO_BODY, Result, timed_out, worker_lost
from crew.worker.shared_state.exit_status import describe_exit

SIZE: Final = 1169  # bytes: three AMQP short strings, the names of a task and a host, and the fields of a `Run`


class LostCall(msgspec.Struct, frozen=True, array_like=True):
    """One call whose process died.

    Attributes:
        status: how that process ended, as `exit_status_of` returns it.
        is_overdue: whether the process was killed because this call ran past its limit.
        run: for a job, its execution up to the crash.
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
        """The call, with the fields that its reply needs."""
        return Call(
            id=self.id,
            task=self.task,
            body=NO_BODY,
            reply_to=self.reply_to,
            message_id=self.message_id,
            persistent=self.persistent,
            is_job=self.run is not None,
        )

    def result(self, host: str) -> Result:
        """Result of the call, for its reply."""
        if self.is_overdue:
            return timed_out(f"task {self.task!r} could not be interrupted; its worker process was killed")
        return worker_lost(
            f"task {self.task!r}: its worker process on {host} {describe_exit(self.status)}; the call is not retried,"
            " because it was acknowledged when it started"
        )


def encode(call: Call, run: Run | None = None) -> bytes:
    """Encode `call` as a lost call of at most SIZE bytes; b"" where the call wants no reply.

    Args:
        run: for a job, the execution that begins.
    """
    if call.reply_to is None:
        return b""
    lost = LostCall(call.id, call.task, call.reply_to, call.message_id, call.persistent, run=run)
    data = msgspec.msgpack.encode(lost)
    return data if len(data) <= SIZE else b""  # too large: its caller waits until the deadline


def decode(data: bytes, *, status: str, is_overdue: bool) -> LostCall:
    """Decode what `encode` returned, for a process that ended with `status`."""
    lost = msgspec.msgpack.decode(data, type=LostCall)
    return msgspec.structs.replace(lost, status=status, is_overdue=is_overdue)
