"""Consumer: turns deliveries into executions, and settles each delivery when its execution has ended.

One delivery: parse -> admission -> buffer -> an executor runs it -> reply, confirmed -> ack. A call that may not run
gets its reply at once. A worker consumes one queue for each task, and must not hold calls that other workers could run:
when no slot has been free for a while, it requeues the calls that have not started, and pauses until a slot is free.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

import msgspec

from crew.amqp import BrokerClock, Delivery, Link
from crew.log import Lines
from crew.protocol import clock, properties
from crew.protocol.clock import IN_STEP
from crew.protocol.encoding import codec
from crew.protocol.message import Call, Control, new_id
from crew.worker.consumer.admission import Admission
from crew.worker.consumer.flow_control import FlowControl
from crew.worker.consumer.revoked_calls import RevokedCalls, reason_of
from crew.worker.consumer.settlement import Settlement
from crew.worker.execution.execution import CALLER_ENDED, Execution
from crew.worker.execution.execution_log import ExecutionLog
from crew.worker.execution.interrupt import InterruptReason
from crew.worker.execution.result import REDELIVERED
from crew.worker.executors.buffer import Buffer
from crew.worker.executors.contract import Executor
from crew.worker.executors.watchdog import Watchdog
from crew.worker.job_reports.jobs import JobReports
from crew.worker.replies.reply_publisher import ReplyPublisher
from crew.worker.replies.retry_publisher import RetryPublisher
from crew.worker.shared_state.shared_state import SharedState
from crew.worker.task import Task

logger = logging.getLogger(__name__)


class TaskConsumer:
    """Serves `tasks` in an executor. Its methods run on the I/O thread; any thread may call the `must_` methods.

    Args:
        link: the consuming link.
        broker_clock: compares this host's clock with the broker's.
        revoked: calls that must not start.
        zombies: executions that may run on after their grace, without a slot, before the process is replaced.
        fixed_prefetch: prefetch of each queue; None to follow the measured run time.
        rooms: queue -> additional deliveries to hold, which may wait without a slot.
        on_replacement_needed: called when this process has to be replaced.
        decode: decodes payloads; refuses content types that this worker does not accept.
        max_message: maximum size of an encoded value, in bytes.
        debug: whether the caller of a timed out task gets the stack of the task.

    Attributes:
        is_stuck: the executor cannot run anything else, because of a task that cannot be interrupted.
    """

    def __init__(
        self,
        tasks: Iterable[Task],
        *,
        link: Link,
        broker_clock: BrokerClock | None = None,
        replies: ReplyPublisher,
        retries: RetryPublisher,
        buffer: Buffer,
        executor: Executor,
        shared_state: SharedState,
        revoked: RevokedCalls,
        job_reports: JobReports,
        grace: float,
        zombies: int,
        fixed_prefetch: int | None,
        rooms: Mapping[str, int] = MappingProxyType({}),
        on_replacement_needed: Callable[[], None],
        decode: codec.Decode = codec.decode,
        max_message: int = codec.MAX_BODY,
        debug: bool = False,
    ) -> None:
        self._max_message = max_message
        self._clock = broker_clock or BrokerClock()
        self._decode = decode
        self._tasks = {queue.name: task for task in tasks for queue in task.queues}
        self._buffer = buffer
        self._executor = executor
        self._shared_state = shared_state
        self._grace = grace
        self._zombies = zombies
        self._on_replacement_needed = on_replacement_needed
        self._log = ExecutionLog()
        self._executions: set[Execution] = set()  # waiting or running, with a slot or a place in the buffer
        self.is_stuck = False
        self._watchdog = Watchdog(executor, self, grace=grace)
        self._flow = FlowControl(
            link,
            self._tasks,
            self.on_delivery,
            on_refused=self.on_refused,
            slots=executor.slots,
            fixed=fixed_prefetch,
            rooms=rooms,
        )
        self._settlement = Settlement(
            replies, retries, job_reports, self._flow, where=executor.stack if debug else None
        )
        self._revoked = revoked
        self._admission = Admission(shared_state, revoked, self._settlement, self._flow, job_reports.revocation_sync)

    def __repr__(self) -> str:
        return f"<TaskConsumer: {len(self._executions)} executions, {len(self._buffer)} of them not started>"

    # --- deliveries -------------------------------------------------------------------------------------------------

    def on_delivery(self, delivery: Delivery) -> None:
        """Handle a delivered call."""
        if not self._flow.is_open:
            self._requeue_while_closed(delivery)
            return
        task = self._tasks[delivery.queue]
        try:
            call = properties.to_call(task.name, delivery.properties, delivery.body, make_id=new_id)
        except properties.MalformedMessage as error:
            self._settlement.refuse_malformed(delivery, task.name, error)
            return
        call = self._with_skew(call, delivery)
        self._flow.add(delivery.queue)
        if delivery.redelivered and self._adopt(delivery, call):
            return
        self._admission.admit(delivery, call, task, self._enqueue)

    def on_refused(self, delivery: Delivery) -> None:
        """Park a message without a valid signature; it does not run and gets no reply."""
        self._settlement.park_refused(delivery)

    def _with_skew(self, call: Call, delivery: Delivery) -> Call:
        """Copy `call` with the difference between the sender's clock and this one; `call` itself if there is none."""
        own = self._clock.offset
        if call.clock is None and own is IN_STEP:
            return call
        skew = clock.skew(sender=call.clock, published=delivery.properties.timestamp, own=own, now=time.time())
        return msgspec.structs.replace(call, skew=skew)

    def _enqueue(self, delivery: Delivery, call: Call, task: Task, crashes: int) -> Execution | None:
        """Put an admitted call into the buffer of the executor; returns its execution, None if it has to wait."""
        execution = Execution(delivery, call, task, crashes=crashes, decode=self._decode, max_message=self._max_message)
        if execution.runs_once and not call.is_job and not self._executions:
            self._settlement.acknowledge_at_start(execution)  # it starts at once, so `on_started` need not do it
        self._executions.add(execution)
        self._buffer.put(execution)
        self._executor.fill()
        self._watchdog.wake()
        return execution

    def _adopt(self, delivery: Delivery, call: Call) -> bool:
        """Give a redelivery to the execution that still runs here, as its own delivery was lost with a connection."""
        for execution in self._executions:
            is_same = execution.call.id == call.id and execution.call.deadline == call.deadline
            if is_same and execution.result is None and not execution.delivery.is_ours:
                self._settlement.adopt(execution, delivery)
                return True
        return False

    def _requeue_while_closed(self, delivery: Delivery) -> None:
        """Requeue a delivery that arrived while consuming is paused or closed, and pause its queue again."""
        self._flow.pause_again(delivery.queue)
        delivery.requeue()

    # --- callbacks of executor and watchdog -------------------------------------------------------------------------

    def has_work(self) -> bool:
        """Whether an execution waits, or runs and may still end."""
        return bool(self._executions) and not self.is_stuck

    def must_announce(self, execution: Execution) -> bool:
        """Whether `on_started` reports its start to the caller; not if its task is quick.

        A job that is acknowledged at its start is always announced: it is in no queue any more, so if its host died
        unannounced, its record would wait for ever.
        """
        is_once_only_job = execution.call.is_job and execution.runs_once
        is_quick = self._flow.is_quick(execution.delivery.queue)
        return not execution.is_announced and (is_once_only_job or not is_quick)

    def must_acknowledge(self, execution: Execution) -> bool:
        """Whether `on_started` acknowledges its delivery."""
        return execution.runs_once and not execution.is_acknowledged and not execution.is_settled

    def on_started(self, execution: Execution, is_awaited: bool = True) -> None:
        """Handle the start of an execution: acknowledge it if it runs at most once, and announce it.

        If it cannot be acknowledged it does not run. It is announced before the task begins, unless the task is quick:
        a task that never releases the GIL could not be announced later.

        Args:
            is_awaited: whether the task begins only after this.
        """
        if self.must_acknowledge(execution) and not self._settlement.acknowledge_at_start(execution) and is_awaited:
            execution.decide(REDELIVERED)
        elif self.must_announce(execution):
            self._settlement.announce(execution)
        self._watchdog.wake_by(execution.limit)

    def on_started_long_ago(self, execution: Execution) -> None:
        """Announce an execution of a quick task that runs longer than usual."""
        self._settlement.announce(execution)

    def on_decided(self, execution: Execution) -> None:
        """Settle an execution whose result is decided, although its task may still be cleaning up.

        A call that is retried or requeued waits for the end of that clean-up. Its nested calls end now.
        """
        if execution.scope is not None and (execution.has_ended or not execution.interruption.shields):
            execution.scope.abandon(CALLER_ENDED)
        result = execution.result
        if execution.is_settled or result is None or (result.runs_again and execution in self._executions):
            return
        self._settlement.settle(execution, result)

    def on_ended(self, execution: Execution) -> None:
        """Handle the end of an execution: its task no longer runs."""
        self._log.end(execution)
        self._settlement.send_last_progress(execution)
        if execution in self._executions:
            self._executor.release(execution)
            self._release(execution)
            if execution.run_time is not None:
                self._flow.observe(execution.delivery.queue, execution.run_time)
            self._executor.fill()
        elif execution.scope is not None:
            execution.scope.abandon(CALLER_ENDED)  # it ran on without a slot, and has made calls inside a shield

    def on_stuck(self, execution: Execution) -> None:
        """Handle a task that runs on after its grace: free its slot, if the executor can; else replace the process."""
        if execution not in self._executions:
            return
        logger.error(
            "task runs on %g s after its interrupt call_id=%s task=%s stack:%s",
            self._grace,
            execution.call.id,
            execution.task.name,
            Lines(self._executor.stack(execution)),
        )
        self.is_stuck = not self._executor.abandon(execution)
        needs_replacement = self.is_stuck or self._executor.abandoned() > self._zombies
        self._flow.is_closed |= needs_replacement
        self._release(execution)
        if needs_replacement:
            self._on_replacement_needed()
        else:
            self._executor.fill()

    def on_busy(self) -> None:
        """Requeue waiting calls and pause, as no slot has been free for a while and other workers could run them."""
        if not self._flow.is_paused:
            self.requeue_waiting()
            self._flow.pause()

    def on_nested_call(self) -> None:
        """Handle a nested call of a task here: if no slot is free, pause at once, so that the call runs elsewhere."""
        if len(self._executor.running()) >= self._executor.slots:
            self.on_busy()

    # --- cancelling -------------------------------------------------------------------------------------------------

    def cancel(self, control: Control) -> None:
        """Interrupt or drop the call that `control` cancels, if it runs or waits here."""
        reason = reason_of(control)
        for execution in [one for one in self._executions if control.is_about(one.call)]:
            if not execution.has_begun:
                execution.interrupt(reason)  # the executor skips it
            else:
                self._watchdog.interrupt(execution, reason)
                self._shared_state.note_limit(execution)
            self.on_decided(execution)

    def cancel_revoked_jobs(self) -> None:
        """Cancel the jobs here that their stores have revoked."""
        jobs = {one.call.id for one in self._executions if one.call.is_job}
        for id in filter(self._revoked.is_revoked_job, jobs):
            self.cancel(Control(id=id, reason=InterruptReason.CANCELED, is_job=True))

    # --- draining ---------------------------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Stop consuming, and requeue the calls that have not started."""
        self.requeue_waiting()
        await self._flow.close()

    def requeue_waiting(self) -> None:
        """Requeue the calls that have not started."""
        for execution in self._withdraw():
            self._settlement.give_back(execution)

    def interrupt_all(self) -> None:
        """Interrupt all running tasks, so that their calls run on other workers."""
        for execution in self._executor.running():
            self._watchdog.interrupt(execution, InterruptReason.DRAIN)
            self._shared_state.note_limit(execution)

    def settle_all(self) -> None:
        """Settle all executions, including tasks that run on after their interrupt and end with the process."""
        for execution in list(self._executions):
            self._release(execution)

    def stop(self) -> None:
        """Stop the watchdog and flush the log of executions."""
        self._watchdog.stop()
        self._log.flush()

    def on_lost(self, patience: float | None = None) -> None:
        """Drop the calls that have not started: their deliveries are lost with the link, and will be redelivered.

        Args:
            patience: acknowledgement timeout of the broker in seconds, if the link was lost because of it.
        """
        if patience is not None:
            _log_unacknowledged(self._executor.running(), patience, now=time.monotonic())
        for execution in self._withdraw() + list(self._executions):
            self._settlement.lose(execution)
        self._flow.clear()

    # --- parts of the above -----------------------------------------------------------------------------------------

    def _release(self, execution: Execution) -> None:
        """Free the slot of an execution and settle it."""
        self._executions.discard(execution)
        self._shared_state.end(execution)
        self.on_decided(execution)
        self._flow.resume()

    def _withdraw(self) -> list[Execution]:
        """Remove and return executions that have not started, except those that are acknowledged or decided already."""
        withdrawn = []
        for execution in self._buffer.withdraw():
            if execution.is_acknowledged or execution.result is not None:
                self._buffer.put(execution)
            else:
                self._executions.discard(execution)
                withdrawn.append(execution)
        return withdrawn


def _log_unacknowledged(executions: Iterable[Execution], timeout: float, *, now: float) -> None:
    """Log the executions for which the broker closed a channel: they ran longer than its acknowledgement timeout.

    Args:
        timeout: seconds that a delivery may wait for its acknowledgement.
        now: time.monotonic().
    """
    for execution in executions:
        ran = now - (execution.started or now)
        if ran >= timeout and not execution.is_acknowledged and not execution.is_settled:
            name = execution.task.name
            logger.error(
                "acknowledgement timeout exceeded: the broker redelivers the call: write @Task(%r, long=True), or set "
                "a smaller timeout call_id=%s task=%s running=%.0f broker_timeout=%g",
                name,
                execution.call.id,
                name,
                ran,
                timeout,
            )
