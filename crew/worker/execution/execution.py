"""One delivery as a list of steps: decode, run, encode -> what it came to.

What an execution came to is decided once, by an atomic `setdefault`: either its own value or the interrupt wins, and
only the winner acts. So a deadline that strikes while the task is returning can neither produce a second answer nor
hit the next execution.
"""

import asyncio
import contextvars
import inspect
import math
import sys
import time
from typing import TYPE_CHECKING, Any, Final, NoReturn

from crew.amqp import Delivery
from crew.client import Scope, off_loop
from crew.errors import Interrupt, TooLarge
from crew.protocol import deadline, failure, user_headers
from crew.protocol.encoding import codec
from crew.protocol.failure import Failure
from crew.protocol.message import Body, Call, Headers, Outcome
from crew.worker.execution import ack_policy
from crew.worker.execution.cancel_token import Cancellation
from crew.worker.execution.current import running
from crew.worker.execution.interrupt_reason import Reason
from crew.worker.execution.latest_progress import Said
from crew.worker.execution.result import RUNS_ELSEWHERE, Ended, ended_with, out_of_time, timed_out, worker_lost
from crew.worker.posix import forked_child
from crew.worker.task import Task

if TYPE_CHECKING:
    from crew.worker.nested_calls.call import NestedCall


ENDED: Final = "the task that made it has ended, or was interrupted"  # why a nested call is given up
ONE_STRIKE: Final = 0.5  # seconds within which one interrupt is enough, whoever else sends it


class Execution:
    """One run of `task` for one delivery.

    Args:
        crashes: how often a process of this worker has died while it ran this call.
        decode: what this worker accepts.
        max_message: bytes that the encoded value may have.
    """

    slot: int | None = None  # of the ledger

    def __init__(
        self,
        delivery: Delivery,
        call: Call,
        task: Task,
        *,
        crashes: int = 0,
        decode: codec.Decode = codec.decode,
        max_message: int = codec.MAX_BODY,
    ) -> None:
        self._decode = decode
        self._max_message = max_message
        self.delivery = delivery
        self.call = call
        self.task = task
        self.attempt = call.attempt + crashes
        self.headers: Headers = {}
        self.started: float | None = None  # time.monotonic()
        self.started_at: float | None = None  # the same moment in epoch seconds
        self.limit: float | None = None  # time.monotonic(): when it must have ended
        self.run_time: float | None = None  # seconds in the lane: the I/O thread hears of its end later
        self.reason: Reason | None = None  # why it was interrupted
        self.stopped_at = ""  # where the interrupt met the task, as the text of a traceback
        self._stopped_by: BaseException | None = None  # while that text is made
        self.has_ended = False
        self.is_acked = False
        self.is_answered = False
        self.is_announced = False  # the caller knows that it has started
        self.is_logged = False  # its end is in the log
        self.scope: Scope | None = None  # of the calls that it makes, once it has made one
        self.waits_for: NestedCall | None = None  # the call whose value it waits for
        self.shields = 0
        self._interrupted_at: float | None = None  # time.monotonic()
        self.is_owed = False  # an interrupt is on its way to the task, or waits for the end of its shield
        self._struck = -math.inf  # time.monotonic() of the last interrupt
        self._box: dict[str, Any] = {}

    def __repr__(self) -> str:
        state = "interrupted" if self.reason else "running" if self.started else "waiting"
        state = "ended" if self.has_ended else state
        return f"<Execution of call {self.call.id} of task {self.task.name}: {state}>"

    @property
    def runs_once(self) -> bool:
        """Whether its delivery ends with its start, so that nobody runs it again when its process dies."""
        return ack_policy.runs_once(self.call, self.task)

    def leave_slot(self) -> int | None:
        """Its slot of the ledger, to whoever asks first: lane and I/O thread may at the same time."""
        slot: int | None = self.__dict__.pop("slot", None)
        return slot

    # --- steps ------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """The lane has taken it: its clock runs."""
        self.started = now = time.monotonic()
        self.started_at = self.call.sender_time(time.time())
        self.limit = deadline.run_limit(
            timeouts=(self.call.timeout, self.task.timeout),
            deadline=None if self.call.deadline is None else now + self.call.deadline - self.started_at,
            started=now,
        )

    def run(self) -> None:
        """Decode, run, encode, decide. Runs in the lane; an interrupt may end it between any two lines.

        The task has a copy of the thread's context: the context variables that it sets end with it.
        """
        contextvars.copy_context().run(self._run)

    def _run(self) -> None:
        running.set(self)
        try:
            if not self._expire():
                payload = self._decode(self.call.body)
                try:
                    value = self.task.function(payload)
                except Exception as error:
                    self._raised(error)
                else:
                    self.decide(self._returned(value))
        except BaseException as error:
            self._stop(error)
        finally:
            self._end()

    async def run_async(self) -> None:
        """As `run`, for a coroutine function; the asyncio task that runs it runs nothing else."""
        running.set(self)
        try:
            if not self._expire():
                payload = await off_loop.decoded(self.call.body, self._decode)
                try:
                    value = self.task.function(payload)
                    if inspect.isawaitable(value):  # a plain function around an `async def` may have run it itself
                        value = await value
                except Exception as error:
                    self._raised(error)
                else:
                    self.decide(await self._returned_async(value))
        except BaseException as error:
            self._stop(error)
        finally:
            self._end()

    def _expire(self) -> bool:
        """Decide that it is out of time, where its deadline went by while it waited here."""
        is_past = deadline.is_past(self.call.deadline, self.call.sender_time(time.time()))
        if is_past:
            self.decide(out_of_time(self.call))
        return is_past

    def _returned(self, value: object) -> Ended:
        if forked_child.is_child:
            forked_child.end()
        return Ended(Outcome.RETURNED, self._encoded(value), user_headers.check(self.headers))

    async def _returned_async(self, value: object) -> Ended:
        """As `_returned`; a thread compresses what is large."""
        if forked_child.is_child:
            forked_child.end()
        body = codec.encode(value, self._serializer(value), max_size=sys.maxsize, compresses=False)
        return Ended(Outcome.RETURNED, self._fitting(await off_loop.packed(body)), user_headers.check(self.headers))

    def _raised(self, error: Exception) -> None:
        """The task itself has failed, so that another run may help; it would decode and encode no better."""
        if forked_child.is_child:
            forked_child.end(error)
        attempt, now = self.call.attempt, self.call.sender_time(time.time())
        verdict = self.task.retry.verdict(error, attempt=attempt, deadline=self.call.deadline, now=now)
        told = failure.describe(error, retryable=verdict.retryable, attempts=attempt, note=verdict.note)
        self._fail(told, retry_after=verdict.delay)

    def _stop(self, error: BaseException) -> None:
        """No failure of the task has ended it."""
        if forked_child.is_child:
            forked_child.end(error)
        self._stopped_by = error  # for who asks before the next line is done: it reads the sources of the task
        self._fail(failure.describe(error))
        self._stopped_by = None

    def _fail(self, told: Failure, *, retry_after: float | None = None) -> None:
        if not self.decide(ended_with(Outcome.RAISED, told, retry_after=retry_after)):
            self.stopped_at = told.traceback

    def _end(self) -> None:
        self.run_time = None if self.started is None else time.monotonic() - self.started
        self.has_ended = True

    def _encoded(self, value: object) -> Body:
        try:
            return codec.encode(value, self._serializer(value), max_size=self._max_message)
        except TooLarge as error:
            raise self._too_large(error) from None

    def _fitting(self, body: Body) -> Body:
        try:
            return codec.fitting(body, self._max_message)
        except TooLarge as error:
            raise self._too_large(error) from None

    def _too_large(self, error: TooLarge) -> TooLarge:
        return TooLarge(f"the value of task {self.task.name!r} cannot be sent: {error}")

    def _serializer(self, value: object) -> str | None:
        """A caller that speaks msgpack is answered in it."""
        return "msgpack" if self.call.body.content_type == codec.MSGPACK and not isinstance(value, bytes) else None

    # --- deciding ---------------------------------------------------------------------------------------------------

    @property
    def ended(self) -> Ended | None:
        """What it came to, once that is decided."""
        return self._box.get("ended")

    @property
    def is_interrupted(self) -> bool:
        """Whether an interrupt, not the task, decided it."""
        return self.reason is not None and self._box.get("by") is self.reason

    def decide(self, ended: Ended) -> bool:
        """It came to `ended`; False where something else was first."""
        return self._box.setdefault("ended", ended) is ended

    def interrupt(self, reason: Reason) -> bool:
        """Decide that it is interrupted; False where it has come to something else already.

        Does not stop the task by itself: the lane does that, and only for who got True here.
        """
        if not self.decide(_interrupted(self, reason)):
            return False
        self._box["by"] = self.reason = reason
        self._interrupted_at = time.monotonic()
        self.cancelled.set()
        return True

    @property
    def cancelled(self) -> Cancellation:
        """Set when the execution should end; made when it is first asked for, as few tasks look."""
        made: Cancellation = self._box.get("cancelled") or self._box.setdefault("cancelled", Cancellation())
        return made

    @property
    def said(self) -> Said:
        """What its task says of its job; made when it is first asked for."""
        made: Said = self._box.get("said") or self._box.setdefault("said", Said())
        return made

    def where_stopped(self) -> str:
        """Where the interrupt met the task, as the text of a traceback; "" while it is still there."""
        error = self._stopped_by
        return self.stopped_at or ("" if error is None else failure.describe(error).traceback)

    @property
    def remaining(self) -> float | None:
        """Seconds that it may still run; None where unlimited."""
        return None if self.limit is None else deadline.remaining(self.limit, time.monotonic())

    @property
    def due(self) -> float | None:
        """When it must have ended (time.monotonic()): its limit, or the interrupt that came first; its grace begins."""
        if self._interrupted_at is None or (self.limit is not None and self.limit < self._interrupted_at):
            return self.limit
        return self._interrupted_at

    # --- raising what was decided -----------------------------------------------------------------------------------

    def strike(self, now: float) -> None:
        """Raise the interrupt, in the thread of the task; at the end of its shield where it has one."""
        if self.is_struck(now):
            return
        self.is_owed = True
        if not self.shields:
            self.pay()

    def owe(self) -> bool:
        """Whether an interrupt may be sent to the task now; where it is shielded, it raises it itself at the end."""
        self.is_owed = True
        if self.shields:
            return False
        self._struck = time.monotonic()
        return True

    def pay(self) -> NoReturn:
        """Raise what is owed, in the thread of the task."""
        self.is_owed = False
        self._struck = time.monotonic()
        reason = self.reason or Reason.TIMEOUT
        raise asyncio.CancelledError(reason.value) if self.task.is_async else Interrupt(reason)

    def is_struck(self, now: float, *, within: float = ONE_STRIKE) -> bool:
        """Whether it was interrupted in the last `within` seconds, so that it is cleaning up."""
        return now - self._struck < within


def _interrupted(execution: Execution, reason: Reason) -> Ended:
    task = execution.task.name
    match reason:
        case Reason.TIMEOUT:
            ran = time.monotonic() - (execution.started or time.monotonic())
            return timed_out(f"task {task!r} was interrupted after {ran:.3f} s{_waiting(execution.waits_for)}")
        case Reason.CANCELED:
            return ended_with(Outcome.CANCELED, Failure(type_name="Canceled", message=f"task {task!r} was cancelled"))
        case Reason.DRAIN if execution.call.persistent and (execution.runs_once or execution.call.start_by is not None):
            return worker_lost(f"the worker of task {task!r} was stopped while it ran", retry_after=0.0)
        case Reason.DRAIN if execution.call.persistent:
            return RUNS_ELSEWHERE
        case Reason.DRAIN:
            return worker_lost(
                f"the worker of task {task!r} was stopped, and a call that is not persistent is not run twice"
            )


def _waiting(nested: "NestedCall | None") -> str:
    """What an interrupted execution waited for: where nobody had taken it, all slots may wait for each other."""
    if nested is None:
        return ""
    return f", while it waited for task {nested.task!r}" + ("" if nested.has_started else ", which no worker had taken")
