"""The result of an execution, as a value: it is decided first, and acted upon later."""

from typing import Final

import msgspec

from crew.protocol import failure
from crew.protocol.encoding import codec
from crew.protocol.failure import Failure
from crew.protocol.message import Body, Call, Headers, Outcome

NO_BODY: Final = Body(b"", None)


class Result(msgspec.Struct, frozen=True):
    """The result of one execution: a value, or the reason why there is none.

    Attributes:
        outcome: kind of result in the reply. None: there is no reply, because the broker redelivers the call.
        body: the encoded value, or an encoded Failure.
        headers: of the reply.
        retry_after: seconds until the call is run again; this result is then not sent. None: it is sent.
    """

    outcome: Outcome | None
    body: Body
    headers: Headers = {}
    retry_after: float | None = None

    def with_traceback(self, stack: str) -> "Result":
        """A copy of this failed result, with `stack` as its traceback."""
        failed = msgspec.structs.replace(failure.decode(self.body.data), traceback=failure.shortened(stack))
        return msgspec.structs.replace(self, body=Body(failure.encode(failed), codec.JSON))

    @property
    def message(self) -> str:
        """The error message of a failed result."""
        return failure.decode(self.body.data).message

    @property
    def runs_again(self) -> bool:
        """Whether the call is run once more, by this worker or another."""
        return self.outcome is None or self.retry_after is not None


def failed_with(outcome: Outcome, failed: Failure, *, retry_after: float | None = None) -> Result:
    """A result without a value."""
    return Result(outcome, Body(failure.encode(failed), codec.JSON), retry_after=retry_after)


REDELIVERED: Final = Result(None, NO_BODY)  # no reply: the broker delivers the call again


def timed_out(message: str) -> Result:
    """A worker has started the call, and could not finish it in time."""
    return failed_with(Outcome.TIMED_OUT, Failure(type_name="TimeoutError", message=message))


def worker_lost(message: str, *, retry_after: float | None = None) -> Result:
    """The worker process died or stops, and the call is not run again; with `retry_after` only if the retry fails."""
    return failed_with(Outcome.WORKER_LOST, Failure(type_name="WorkerLost", message=message), retry_after=retry_after)


def deadline_passed(call: Call) -> Result:
    """The result of a call that must not start, because its deadline has passed."""
    if call.attempt > 1:  # a worker has run it before
        return timed_out(f"task {call.task!r} failed, and its deadline passed before the next attempt could start")
    return expired(call)


def expired(call: Call) -> Result:
    """The result of a call that no worker has started in time."""
    failed = Failure(type_name="ExpirationError", message=f"no worker took task {call.task!r} in time")
    return failed_with(Outcome.EXPIRED, failed)
