"""What an execution came to, as a value: decided first, acted upon later."""

from typing import Final

import msgspec

from crew.protocol import failure
from crew.protocol.encoding import codec
from crew.protocol.failure import Failure
from crew.protocol.message import Body, Call, Headers, Outcome

NO_BODY: Final = Body(b"", None)


class Ended(msgspec.Struct, frozen=True):
    """What an execution came to.

    Attributes:
        outcome: as the reply says it; None where there is no reply, because another worker runs the call again.
        body: the encoded value, or an encoded Failure.
        headers: of the reply.
        retry_after: seconds until the call is to be run again, instead of being answered with this; None where it is
            answered.
    """

    outcome: Outcome | None
    body: Body
    headers: Headers = {}
    retry_after: float | None = None

    def at(self, stack: str) -> "Ended":
        """As it is, with the place where the task was."""
        told = msgspec.structs.replace(failure.decode(self.body.data), traceback=failure.shortened(stack))
        return msgspec.structs.replace(self, body=Body(failure.encode(told), codec.JSON))

    @property
    def message(self) -> str:
        """What its caller reads, where it has no value."""
        return failure.decode(self.body.data).message

    @property
    def runs_again(self) -> bool:
        """Whether the call is to be run once more, here or elsewhere."""
        return self.outcome is None or self.retry_after is not None


def ended_with(outcome: Outcome, told: Failure, *, retry_after: float | None = None) -> Ended:
    """An end without a value."""
    return Ended(outcome, Body(failure.encode(told), codec.JSON), retry_after=retry_after)


RUNS_ELSEWHERE: Final = Ended(None, NO_BODY)  # there is no answer: the broker delivers it again


def timed_out(message: str) -> Ended:
    """A worker took it, and it could not finish in time."""
    return ended_with(Outcome.TIMED_OUT, Failure(type_name="TimeoutError", message=message))


def worker_lost(message: str, *, retry_after: float | None = None) -> Ended:
    """Its worker process is gone, or goes, and it is not run again; with `retry_after` only where that fails."""
    return ended_with(Outcome.WORKER_LOST, Failure(type_name="WorkerLost", message=message), retry_after=retry_after)


def out_of_time(call: Call) -> Ended:
    """The end of a call that must not be started, as its deadline has passed."""
    if call.attempt > 1:  # a worker took it before
        return timed_out(f"task {call.task!r} has failed, and no worker took it in time to try it again")
    return too_late(call)


def too_late(call: Call) -> Ended:
    """The end of a call that nobody has started in time."""
    told = Failure(type_name="ExpirationError", message=f"no worker took task {call.task!r} in time")
    return ended_with(Outcome.EXPIRED, told)
