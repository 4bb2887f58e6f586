"""One run of a task for one delivery: decode, run, encode, decide the result. Also which execution runs here.

The result of an execution is decided once, by an atomic `setdefault`: either its own value or the interrupt wins, and
only the winner acts. So a deadline that passes while the task returns can neither produce a second reply nor interrupt
the next execution.
"""

import asyncio
import contextvars
import inspect
import math
import os
import socket
import time
from contextvars import ContextVar
from typing import Any, Final, NoReturn, Protocol

import msgspec

from crew.amqp import Delivery
from crew.client import Scope, off_loop
from crew.errors import Interrupt, TooLarge
from crew.protocol import deadline, failure, user_headers
from crew.protocol.encoding import codec
from crew.protocol.failure import Failure
from crew.protocol.message import Body, Call, Headers, Outcome, Run
from crew.worker.execution.interrupt import CancelToken, InterruptReason
from crew.worker.execution.latest_progress import LatestProgress
from crew.worker.execution.result import REDELIVERED, Result, deadline_passed, failed_with, timed_out, worker_lost
from crew.worker.posix import forked_child
from crew.worker.task import Task

CALLER_ENDED: Final = "the task that made it has ended, or was interrupted"  # why a nested call is abandoned
ONE_INTERRUPT: Final = 0.5  # seconds within which one interrupt is enough, whichever thread sends it


class NestedCall(Protocol):
    """A call that a task has made, as its execution sees it."""

    @property
    def task(self) -> str:
        """Name of the called task."""

    @property
    def has_started(self) -> bool:
        """Whether a worker has started it."""


class Execution:
    """One run of `task` for one delivery.

    Args:
        crashes: number of processes of this worker that have died while they ran this call.
        decode: decodes the content types that this worker accepts.
        max_message: bytes that the encoded value may have.
    """

    slot: int | None = None  # of the shared state

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
        self.limit: float | None = None  # time.monotonic() at which it must have ended
        self.run_time: float | None = None  # seconds in the executor; the I/O thread learns of the end later
        self.reason: InterruptReason | None = None  # of its interrupt
        self.stopped_at = ""  # where the interrupt was raised in the task, as the text of a traceback
        self._stopped_by: BaseException | None = None  # while that text is being made
        self.has_ended = False
        self.is_acked = False
        self.is_settled = False
        self.is_announced = False  # the caller was sent its start
        self.is_logged = False  # its end is in the log
        self.scope: Scope | None = None  # of its nested calls, once it has made one
        self.waits_for: NestedCall | None = None  # the nested call whose value it waits for
        self.shields = 0
        self._interrupted_at: float | None = None  # time.monotonic()
        self.has_pending_interrupt = False  # decided and not raised yet: on its way, or waiting for the end of a shield
        self._last_interrupt = -math.inf  # time.monotonic()
        self._box: dict[str, Any] = {}

    def __repr__(self) -> str:
        state = "interrupted" if self.reason else "running" if self.started else "waiting"
        state = "ended" if self.has_ended else state
        return f"<Execution of call {self.call.id} of task {self.task.name}: {state}>"

    @property
    def runs_once(self) -> bool:
        """Whether its delivery is acknowledged at its start, so that it is not run again when its process dies."""
        return self.task.runs_once(self.call)

    def take_slot(self) -> int | None:
        """Return its slot of the shared state to the first caller, then None: executor and I/O thread may both ask."""
        slot: int | None = self.__dict__.pop("slot", None)
        return slot

    # --- steps ------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start its clock: an executor has taken it."""
        self.started = now = time.monotonic()
        self.started_at = self.call.sender_time(time.time())
        self.limit = deadline.run_limit(
            timeouts=(self.call.timeout, self.task.timeout),
            deadline=None if self.call.deadline is None else now + self.call.deadline - self.started_at,
            started=now,
        )

    def run(self) -> None:
        """Decode, run, encode, decide. Runs in the executor; an interrupt may be raised between any two lines.

        The task has a copy of the thread's context, so that the context variables that it sets end with it.
        """
        contextvars.copy_context().run(self._run)

    def _run(self) -> None:
        current_execution.set(self)
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
        """As `run`, for a coroutine function; its asyncio task runs nothing else."""
        current_execution.set(self)
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
        """Decide that it has expired, if its deadline passed while it waited here; return whether it has."""
        is_past = deadline.is_past(self.call.deadline, self.call.sender_time(time.time()))
        if is_past:
            self.decide(deadline_passed(self.call))
        return is_past

    def _returned(self, value: object) -> Result:
        if forked_child.is_child:
            forked_child.end()
        return Result(Outcome.RETURNED, self._encoded(value), user_headers.check(self.headers))

    async def _returned_async(self, value: object) -> Result:
        """As `_returned`; another thread compresses a large value."""
        if forked_child.is_child:
            forked_child.end()
        try:
            body = await off_loop.encoded(value, self._serializer(value), max_size=self._max_message)
        except TooLarge as error:
            raise self._too_large(error) from None
        return Result(Outcome.RETURNED, body, user_headers.check(self.headers))

    def _raised(self, error: Exception) -> None:
        """Decide on a failure of the task itself, which a retry may help; a failed decode or encode would recur."""
        if forked_child.is_child:
            forked_child.end(error)
        attempt, now = self.call.attempt, self.call.sender_time(time.time())
        verdict = self.task.retry.verdict(error, attempt=attempt, deadline=self.call.deadline, now=now)
        failed = failure.describe(error, retryable=verdict.retryable, attempts=attempt, note=verdict.note)
        self._fail(failed, retry_after=verdict.delay)

    def _stop(self, error: BaseException) -> None:
        """Decide on an end that is no failure of the task: an interrupt, or a body or value that has no encoding."""
        if forked_child.is_child:
            forked_child.end(error)
        self._stopped_by = error  # for `where_stopped` during the next line, which is slow: it reads the task's source
        self._fail(failure.describe(error))
        self._stopped_by = None

    def _fail(self, failed: Failure, *, retry_after: float | None = None) -> None:
        if not self.decide(failed_with(Outcome.RAISED, failed, retry_after=retry_after)):
            self.stopped_at = failed.traceback

    def _end(self) -> None:
        self.run_time = None if self.started is None else time.monotonic() - self.started
        self.has_ended = True

    def _encoded(self, value: object) -> Body:
        try:
            return codec.encode(value, self._serializer(value), max_size=self._max_message)
        except TooLarge as error:
            raise self._too_large(error) from None

    def _too_large(self, error: TooLarge) -> TooLarge:
        return TooLarge(f"the value of task {self.task.name!r} cannot be sent: {error}")

    def _serializer(self, value: object) -> str | None:
        """A call encoded as msgpack gets its reply as msgpack."""
        return "msgpack" if self.call.body.content_type == codec.MSGPACK and not isinstance(value, bytes) else None

    # --- deciding ---------------------------------------------------------------------------------------------------

    @property
    def result(self) -> Result | None:
        """Its result, once that is decided."""
        return self._box.get("result")

    @property
    def is_interrupted(self) -> bool:
        """Whether an interrupt, not the task, decided the result."""
        return self.reason is not None and self._box.get("by") is self.reason

    def decide(self, result: Result) -> bool:
        """Set its result; False if another result was set before."""
        return self._box.setdefault("result", result) is result

    def interrupt(self, reason: InterruptReason) -> bool:
        """Decide that it is interrupted; False if its result was decided before.

        This does not stop the task: its executor does, and only for the caller that gets True here.
        """
        if not self.decide(_interrupted(self, reason)):
            return False
        self._box["by"] = self.reason = reason
        self._interrupted_at = time.monotonic()
        self.canceled.set()
        return True

    @property
    def canceled(self) -> CancelToken:
        """Set when the task should end; created on first use, as few tasks need it."""
        token: CancelToken = self._box.get("canceled") or self._box.setdefault("canceled", CancelToken())
        return token

    @property
    def latest_progress(self) -> LatestProgress:
        """The progress of its job that was not sent yet; created on first use."""
        latest: LatestProgress = self._box.get("progress") or self._box.setdefault("progress", LatestProgress())
        return latest

    def where_stopped(self) -> str:
        """Where the interrupt was raised in the task, as the text of a traceback; "" before that."""
        error = self._stopped_by
        return self.stopped_at or ("" if error is None else failure.describe(error).traceback)

    @property
    def remaining(self) -> float | None:
        """Seconds that it may still run; None if unlimited."""
        return None if self.limit is None else deadline.remaining(self.limit, time.monotonic())

    @property
    def due(self) -> float | None:
        """Start of its grace (time.monotonic()): its limit, or its interrupt if that came first."""
        if self._interrupted_at is None or (self.limit is not None and self.limit < self._interrupted_at):
            return self.limit
        return self._interrupted_at

    # --- the run of a job, for its record ---------------------------------------------------------------------------

    def started_run(self) -> Run | None:
        """The run of its job, while it runs; None if its call is no job. Each reply to a job carries its run."""
        if not self.call.is_job:
            return None
        return Run(
            host=host_and_pid(),
            started=self.started_at,
            attempt=self.attempt,
            is_only_one=self.runs_once,
            progress_count=self.latest_progress.sent,
        )

    def ended_run(self) -> Run | None:
        """The run of its job, at its end. An interrupted task that still cleans up counts as ended now."""
        run = self.started_run()
        if run is None or self.started_at is None:
            return run
        end = self.call.sender_time(time.time()) if self.run_time is None else self.started_at + self.run_time
        return msgspec.structs.replace(run, ended=end)

    # --- raising the interrupt that was decided ---------------------------------------------------------------------

    def raise_interrupt(self, now: float) -> None:
        """Raise the interrupt in the calling thread, which is the task's; if it is shielded, its shield raises it."""
        if self.was_interrupted_lately(now):
            return
        self.has_pending_interrupt = True
        if not self.shields:
            self.raise_pending()

    def begin_interrupt(self) -> bool:
        """Mark an interrupt as pending; return whether it may be sent now. If not, the end of the shield raises it."""
        self.has_pending_interrupt = True
        if self.shields:
            return False
        self._last_interrupt = time.monotonic()
        return True

    def raise_pending(self) -> NoReturn:
        """Raise the pending interrupt, in the thread of the task."""
        self.has_pending_interrupt = False
        self._last_interrupt = time.monotonic()
        reason = self.reason or InterruptReason.TIMEOUT
        raise asyncio.CancelledError(reason.value) if self.task.is_async else Interrupt(reason)

    def was_interrupted_lately(self, now: float, *, within: float = ONE_INTERRUPT) -> bool:
        """Whether an interrupt was raised in the last `within` seconds: the task is probably cleaning up."""
        return now - self._last_interrupt < within


# The execution that runs here: one per thread, or one per asyncio task.
current_execution: ContextVar[Execution | None] = ContextVar("current_execution", default=None)


def refused_run(call: Call, executions: int) -> Run | None:
    """The run of a job whose `call` ends now without being run; None if it is no job.

    Args:
        executions: number of executions of it that were started before.
    """
    ended = call.sender_time(time.time())
    return Run(host=host_and_pid(), ended=ended, attempt=max(1, executions)) if call.is_job else None


def host_and_pid() -> str:
    """This process, as "host:pid"."""
    return f"{socket.gethostname()}:{os.getpid()}"


def _interrupted(execution: Execution, reason: InterruptReason) -> Result:
    task = execution.task.name
    match reason:
        case InterruptReason.TIMEOUT:
            ran = time.monotonic() - (execution.started or time.monotonic())
            return timed_out(f"task {task!r} was interrupted after {ran:.3f} s{_waiting(execution.waits_for)}")
        case InterruptReason.CANCELED:
            return failed_with(Outcome.CANCELED, Failure(type_name="Canceled", message=f"task {task!r} was canceled"))
        case InterruptReason.DRAIN if execution.call.persistent and (
            execution.runs_once or execution.call.start_by is not None
        ):
            return worker_lost(f"the worker of task {task!r} was stopped while it ran", retry_after=0.0)
        case InterruptReason.DRAIN if execution.call.persistent:
            return REDELIVERED
        case InterruptReason.DRAIN:
            return worker_lost(
                f"the worker of task {task!r} was stopped while it ran; the call is not persistent and is not retried"
            )


def _waiting(nested: NestedCall | None) -> str:
    """The nested call that an interrupted task waited for. If no worker had started it, slots may be too few."""
    if nested is None:
        return ""
    return f", while it waited for task {nested.task!r}" + (
        "" if nested.has_started else ", which no worker had started"
    )
