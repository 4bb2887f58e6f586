"""One run of a task for one delivery: decode, run, encode, decide the result. Also which execution runs here.

The result of an execution is decided once: either its own value or the interrupt wins, and only the winner acts. So a
deadline that passes while the task returns can neither produce a second reply nor interrupt the next execution. Its
states are in `crew.worker.execution.state`.
"""

import asyncio
import inspect
import os
import socket
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final, NoReturn

import msgspec

from crew.amqp import Delivery
from crew.client import Scope, off_loop
from crew.errors import Interrupt, InvalidArguments, TooLarge
from crew.protocol import deadline, failure, user_headers
from crew.protocol.encoding import codec
from crew.protocol.encoding.call_arguments import Arguments
from crew.protocol.failure import Failure
from crew.protocol.message import Call, Headers, Outcome, Run
from crew.signatures.signature import Bound
from crew.worker.execution.interrupt import CancelToken, InterruptReason
from crew.worker.execution.interrupted import NestedCall, interrupted
from crew.worker.execution.interruption import Interruption
from crew.worker.execution.latest_progress import NO_PROGRESS, LatestProgress
from crew.worker.execution.result import Result, deadline_passed, failed_with
from crew.worker.execution.state import (
    ACKNOWLEDGED,
    ANNOUNCED,
    END,
    ENDED,
    OPEN,
    START,
    WAITING,
    Decision,
    ExecutionStateMachine,
)
from crew.worker.posix import forked_child
from crew.worker.task import Task

CALLER_ENDED: Final = "the task that made it has ended, or was interrupted"  # why a nested call is abandoned
_MSGPACK: Final = (codec.MSGPACK, codec.OF_ARGUMENTS[codec.MSGPACK])
_NO_NAMES: Final[dict[str, Any]] = {}


class Times(msgspec.Struct, eq=False, gc=False):
    """When an execution began, and how long it may run and has run.

    Attributes:
        started: time.monotonic().
        started_at: the same moment in epoch seconds.
        limit: time.monotonic() at which it must have ended; None: no limit.
        run_time: seconds in the executor; the I/O thread learns of the end later.
        is_logged: its end is in the log.
    """

    started: float | None = None
    started_at: float | None = None
    limit: float | None = None
    run_time: float | None = None
    is_logged: bool = False


class Execution:
    """One run of `task` for one delivery.

    Args:
        crashes: number of processes of this worker that have died while they ran this call.
        decode: decodes the content types that this worker accepts.
        max_message: bytes that the encoded value may have.
        compresses: whether a large value is compressed; that of a job, which is stored, always is.
        stack: returns where its task is, as the text of a traceback; None if callers do not get that.

    Attributes:
        runs_once: its delivery is acknowledged at its start, so that it is not run again when its process dies.
        state: the states of its task, result, start, settlement and delivery.
        times: of its run.
        interruption: how its interrupt is raised in its task.
        headers: of its reply.
        latest_progress: the progress of its job that was not sent yet; NO_PROGRESS if its call is no job.
        runner: the thread or asyncio task that runs it, if it has one of its own.
        slot: of the shared state.
        scope: of its nested calls, once it has made one.
        waits_for: the nested call whose value it waits for.
    """

    def __init__(
        self,
        delivery: Delivery,
        call: Call,
        task: Task,
        *,
        crashes: int = 0,
        decode: codec.Decode = codec.decode,
        max_message: int = codec.MAX_BODY,
        compresses: bool = True,
        stack: Callable[["Execution"], str] | None = None,
    ) -> None:
        self._stack = stack
        self._decode = decode
        self._max_message = max_message
        # A call encoded as msgpack gets its reply as msgpack, unless that is bytes.
        self._serializer = "msgpack" if call.body.content_type in _MSGPACK else None
        self._compresses = compresses or call.is_job
        self.call = call
        self.task = task
        self.attempt = call.attempt + crashes
        self.runs_once = task.runs_once(call)
        self.delivery = delivery
        self.state = ExecutionStateMachine()
        self.times = Times()
        self.interruption = Interruption()
        self.headers: Headers = {}
        self.latest_progress = LatestProgress() if call.is_job else NO_PROGRESS
        self.runner: threading.Thread | asyncio.Task[None] | None = None
        self.slot: int | None = None
        self.scope: Scope | None = None
        self.waits_for: NestedCall | None = None

    def __repr__(self) -> str:
        return f"<Execution of call {self.call.id} of task {self.task.name}: {self.state}>"

    # --- states -----------------------------------------------------------------------------------------------------

    @property
    def has_begun(self) -> bool:
        """Whether an executor has taken it."""
        return self.state.task is not WAITING

    @property
    def has_ended(self) -> bool:
        """Whether its task no longer runs."""
        return self.state.task is ENDED

    @property
    def is_announced(self) -> bool:
        """Whether its caller was sent its start."""
        return self.state.start is ANNOUNCED

    @property
    def is_settled(self) -> bool:
        """Whether its reply or retry was sent, or its delivery was given back."""
        return self.state.settlement is not OPEN

    @property
    def is_acknowledged(self) -> bool:
        """Whether its delivery is acknowledged: no other process would run it."""
        return self.state.delivery is ACKNOWLEDGED

    @property
    def started(self) -> float | None:
        """When it began (time.monotonic())."""
        return self.times.started

    @property
    def limit(self) -> float | None:
        """When it must have ended (time.monotonic()); None: no limit."""
        return self.times.limit

    # --- steps ------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start its clock: an executor has taken it."""
        now, now_at = time.monotonic(), self.call.sender_time(time.time())
        limit = deadline.run_limit(
            timeouts=(self.call.timeout, self.task.timeout),
            deadline=None if self.call.deadline is None else now + self.call.deadline - now_at,
            started=now,
        )
        self.times = Times(now, now_at, limit)
        self.state.move(START)

    def end(self) -> None:
        """Record that its task no longer runs; idempotent, as an interrupt may have kept its own thread from it."""
        if self.state.task is not ENDED:
            self.state.move(END)

    def run(self) -> None:
        """Decode, run, encode, decide. Runs in the executor; an interrupt may be raised between any two lines.

        Called in a context of its own, so that the context variables that the task sets end with it.
        """
        current_execution.set(self)
        try:
            if deadline.is_past(self.call.deadline, self.call.sender_time(time.time())):  # it waited here
                self.decide(deadline_passed(self.call))
            else:
                args, kwargs = self._bound(self._decode(self.call.body))
                try:
                    value = self.task.function(*args, **kwargs)
                except Exception as error:
                    self._raised(error)
                else:
                    self.state.decide(Decision(self._returned(value)))
        except BaseException as error:
            self._stop(error)
        finally:
            self._finish()

    async def run_async(self) -> None:
        """As `run`, for a coroutine function; its asyncio task runs nothing else."""
        current_execution.set(self)
        try:
            if deadline.is_past(self.call.deadline, self.call.sender_time(time.time())):
                self.decide(deadline_passed(self.call))
            else:
                args, kwargs = self._bound(await off_loop.decoded(self.call.body, self._decode))
                try:
                    value = self.task.function(*args, **kwargs)
                    if inspect.isawaitable(value):  # a plain function around an `async def` may have run it itself
                        value = await value
                except Exception as error:
                    self._raised(error)
                else:
                    self.state.decide(Decision(await self._returned_async(value)))
        except BaseException as error:
            self._stop(error)
        finally:
            self._finish()

    def _bound(self, payload: Any) -> Bound:
        """The arguments for the function; raises InvalidArguments."""
        if self.task.takes_any_payload and type(payload) is not Arguments:
            return (payload,), _NO_NAMES
        return self.task.signature.bind_payload(payload)

    def _returned(self, value: object) -> Result:
        if forked_child.is_child:
            forked_child.end()
        try:
            body = codec.encode_for_settings(**self._encoding(value))
        except TooLarge as error:
            raise self._too_large(error) from None
        return Result(Outcome.RETURNED, body, user_headers.check(self.headers))

    async def _returned_async(self, value: object) -> Result:
        """As `_returned`; another thread compresses a large value."""
        if forked_child.is_child:
            forked_child.end()
        try:
            body = await off_loop.encoded(**self._encoding(value))
        except TooLarge as error:
            raise self._too_large(error) from None
        return Result(Outcome.RETURNED, body, user_headers.check(self.headers))

    def _encoding(self, value: object) -> dict[str, Any]:
        """The arguments for the encoder of the task's value."""
        signature, is_bytes = self.task.signature, isinstance(value, bytes)
        is_exact = signature.encodes_result and not is_bytes
        return {
            "payload": signature.encode_result(value) if is_exact else value,
            "serializer": None if is_bytes else self._serializer,
            "max_size": self._max_message,
            "compresses": self._compresses,
            "is_exact": is_exact,
        }

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
        # For `interruption.where` during the second line, which is slow: it reads the task's source.
        self.interruption.stopped_by = error
        self._fail(
            failure.of_refused_arguments(error) if isinstance(error, InvalidArguments) else failure.describe(error)
        )
        self.interruption.stopped_by = None

    def _fail(self, failed: Failure, *, retry_after: float | None = None) -> None:
        if not self.decide(failed_with(Outcome.RAISED, failed, retry_after=retry_after)):
            self.interruption.stopped_at = failed.traceback

    def _finish(self) -> None:
        if self.times.started is not None:
            self.times.run_time = time.monotonic() - self.times.started
        self.state.move(END)

    def _too_large(self, error: TooLarge) -> TooLarge:
        return TooLarge(f"the value of task {self.task.name!r} cannot be sent: {error}")

    # --- deciding ---------------------------------------------------------------------------------------------------

    @property
    def result(self) -> Result | None:
        """Its result, once that is decided."""
        decisions = self.state.decisions
        return decisions[0].result if decisions else None

    @property
    def reason(self) -> InterruptReason | None:
        """Why it was interrupted; None unless an interrupt has decided the result."""
        decisions = self.state.decisions
        return decisions[0].reason if decisions else None

    @property
    def is_interrupted(self) -> bool:
        """Whether an interrupt, not the task, decided the result."""
        decisions = self.state.decisions
        return bool(decisions) and decisions[0].reason is not None

    def decide(self, result: Result) -> bool:
        """Set its result; False if another result was set before."""
        return self.state.decide(Decision(result))

    def interrupt(self, reason: InterruptReason) -> bool:
        """Decide that it is interrupted; False if its result was decided before.

        This does not stop the task: its executor does, and only for the caller that gets True here.
        """
        if self._stack is not None and not self.state.decisions:
            self.interruption.hung_at = self._stack(self)  # now: it may clean up when the reply is sent
        now = time.monotonic()
        result = interrupted(
            self.call,
            reason,
            ran=now - (self.times.started or now),
            runs_once=self.runs_once,
            waits_for=self.waits_for,
        )
        if not self.state.decide(Decision(result, reason, now)):
            return False
        self.canceled.set()
        return True

    @property
    def canceled(self) -> CancelToken:
        """Set when the task should end."""
        return self.interruption.canceled

    @property
    def remaining(self) -> float | None:
        """Seconds that it may still run; None if unlimited."""
        limit = self.times.limit
        return None if limit is None else deadline.remaining(limit, time.monotonic())

    @property
    def due(self) -> float | None:
        """Start of its grace (time.monotonic()): its limit, or its interrupt if that came first."""
        limit, decisions = self.times.limit, self.state.decisions
        interrupted_at = decisions[0].at if decisions else None
        return limit if interrupted_at is None or (limit is not None and limit < interrupted_at) else interrupted_at

    # --- the run of a job, for its record ---------------------------------------------------------------------------

    def started_run(self) -> Run | None:
        """The run of its job, while it runs; None if its call is no job. Each reply to a job carries its run."""
        if not self.call.is_job:
            return None
        return Run(
            host=host_and_pid(),
            started=self.times.started_at,
            attempt=self.attempt,
            is_only_one=self.runs_once,
            progress_count=self.latest_progress.sent,
        )

    def ended_run(self) -> Run | None:
        """The run of its job, at its end. An interrupted task that still cleans up counts as ended now."""
        run = self.started_run()
        started_at, run_time = self.times.started_at, self.times.run_time
        if run is None or started_at is None:
            return run
        end = self.call.sender_time(time.time()) if run_time is None else started_at + run_time
        return msgspec.structs.replace(run, ended=end)

    # --- raising the interrupt that was decided ---------------------------------------------------------------------

    def raise_interrupt(self, now: float) -> None:
        """Raise the interrupt in the calling thread, which is the task's; if it is shielded, its shield raises it."""
        if self.interruption.was_raised_lately(now):
            return
        self.interruption.is_pending = True
        if not self.interruption.shields:
            self.raise_pending()

    def raise_pending(self) -> NoReturn:
        """Raise the pending interrupt, in the thread of the task."""
        self.interruption.end()
        reason = self.reason or InterruptReason.TIMEOUT
        raise asyncio.CancelledError(reason.value) if self.task.is_async else Interrupt(reason)


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
