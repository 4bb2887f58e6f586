"""Consumer: turns deliveries into executions, and settles each delivery when its execution has ended.

One delivery: parse -> admission -> buffer -> an executor runs it -> reply, confirmed -> ack. A call that may not run
gets its reply at once. A worker consumes one queue for each task, and must not hold calls that other workers could run:
when no slot has been free for a while, it requeues the calls that have not started, and pauses until a slot is free.
"""

import asyncio
import functools
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
from crew.worker.consumer.admission import ADMITTED, CRASH_COUNT_DELAY, Admission, Admitted, Refused, Verdict, Wait
from crew.worker.consumer.flow_control import FlowControl
from crew.worker.consumer.revoked_calls import RevokedCalls, reason_of
from crew.worker.consumer.settlement import Settlement
from crew.worker.consumer.starts import Starts
from crew.worker.execution.execution import CALLER_ENDED, Execution
from crew.worker.execution.execution_log import ExecutionLog
from crew.worker.execution.held import Held
from crew.worker.execution.interrupt import InterruptReason
from crew.worker.execution.state import ENDED, OPEN
from crew.worker.executors.buffer import Buffer
from crew.worker.executors.contract import Executor
from crew.worker.executors.watchdog import Watchdog
from crew.worker.job_reports.jobs import JobReports
from crew.worker.replies.reply_publisher import ReplyPublisher
from crew.worker.replies.retry_publisher import RetryPublisher
from crew.worker.shared_state.shared_state import SharedState
from crew.worker.task import Task

logger = logging.getLogger(__name__)


Run = Callable[[Delivery, Call, Task, int], object]


class TaskConsumer:
    """Serves `tasks` in an executor. Its methods run on the I/O thread; any thread may call the `must_` methods.

    Args:
        link: the consuming link.
        held: the record of deliveries and executions, which the executor shares.
        broker_clock: compares this host's clock with the broker's.
        revoked: calls that must not start.
        zombies: executions that may run on after their grace, without a slot, before the process is replaced.
        fixed_prefetch: prefetch of each queue; None to follow the measured run time.
        rooms: queue -> additional deliveries to hold, which may wait without a slot.
        on_replacement_needed: called when this process has to be replaced.
        decode: decodes payloads; refuses content types that this worker does not accept.
        max_message: maximum size of an encoded value, in bytes.
        compresses: whether large values are compressed.
        debug: whether the caller of a timed out task gets the stack of the task.

    Attributes:
        is_stuck: the executor cannot run anything else, because of a task that cannot be interrupted.
        starts: handles the starts of executions.
    """

    def __init__(
        self,
        tasks: Iterable[Task],
        *,
        link: Link,
        broker_clock: BrokerClock | None = None,
        replies: ReplyPublisher,
        retries: RetryPublisher,
        held: Held,
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
        compresses: bool = True,
        debug: bool = False,
    ) -> None:
        self._max_message = max_message
        self._compresses = compresses
        self._stack = executor.stack if debug else None
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
        self._held = held
        self.is_stuck = False
        self._watchdog = Watchdog(executor, self, held, grace=grace)
        self._flow = FlowControl(
            link,
            self._tasks,
            self.on_delivery,
            on_refused=self.on_refused,
            held=held,
            slots=executor.slots,
            fixed=fixed_prefetch,
            rooms=rooms,
        )
        self._settlement = Settlement(replies, retries, job_reports, held)
        self._revoked = revoked
        self._revocation_sync = job_reports.revocation_sync
        self._admission = Admission(shared_state, revoked, self._revocation_sync)
        self.starts = Starts(self._settlement, self._flow, self._watchdog)

    def __repr__(self) -> str:
        return f"<TaskConsumer: {self._held!r}>"

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
        if call.clock is not None or self._clock.offset is not IN_STEP:
            call = self._with_skew(call, delivery)
        if delivery.redelivered and self._adopt(delivery, call):
            return
        verdict = self._admission.decide(delivery, call, task)
        if verdict is ADMITTED:
            self._enqueue(delivery, call, task, 0)
        else:
            self._follow(verdict, delivery, call, task, self._enqueue)

    def on_refused(self, delivery: Delivery) -> None:
        """Park a message without a valid signature; it does not run and gets no reply."""
        self._settlement.park_refused(delivery)

    def _with_skew(self, call: Call, delivery: Delivery) -> Call:
        """Copy `call` with the difference between the sender's clock and this one."""
        published, own = delivery.properties.timestamp, self._clock.offset
        skew = clock.skew(sender=call.clock, published=published, own=own, now=time.time())
        return msgspec.structs.replace(call, skew=skew)

    def _admit(self, delivery: Delivery, call: Call, task: Task, run: Run, *, has_waited: bool = False) -> None:
        """Decide on a delivery that has waited."""
        self._follow(self._admission.decide(delivery, call, task, has_waited=has_waited), delivery, call, task, run)

    def _follow(self, verdict: Verdict, delivery: Delivery, call: Call, task: Task, run: Run) -> None:
        """Call `run` with these arguments and the number of crashes of `call`, refuse the call, or wait."""
        self._held.accept(delivery)
        if isinstance(verdict, Admitted):
            run(delivery, call, task, verdict.crashes)
        elif isinstance(verdict, Refused):
            result, executions = verdict.result, verdict.executions
            self._settlement.refuse(delivery, call, result, executions=executions, exit_status=verdict.exit_status)
        elif verdict is Wait.FOR_STORE:
            assert call.reply_to is not None
            again = functools.partial(self._admit, delivery, call, task, run)
            self._revocation_sync.hold(call.reply_to, self._resume, delivery, again)
        else:
            again = functools.partial(self._admit, delivery, call, task, run, has_waited=True)
            asyncio.get_running_loop().call_later(CRASH_COUNT_DELAY, self._resume, delivery, again)

    def _resume(self, delivery: Delivery, go_on: Callable[[], object]) -> None:
        """Go on with a delivery that has waited; requeue it if no deliveries are accepted any more."""
        if not self._flow.is_open:
            self._held.requeue(delivery)
        elif delivery.is_ours:  # else it was lost with its connection
            go_on()

    def _enqueue(self, delivery: Delivery, call: Call, task: Task, crashes: int) -> Execution | None:
        """Put an admitted call into the buffer of the executor; returns its execution, None if it has to wait."""
        execution = Execution(
            delivery,
            call,
            task,
            crashes=crashes,
            decode=self._decode,
            max_message=self._max_message,
            compresses=self._compresses,
            stack=self._stack,
        )
        starts_at_once = execution.runs_once and not call.is_job and not self._held.has_work
        self._held.add(execution)
        if starts_at_once:
            self._settlement.acknowledge_at_start(execution)  # so that `starts` need not do it
        self._buffer.put(execution)
        if not self._executor.takes:
            self._executor.fill()
        self._watchdog.wake()
        return execution

    def _adopt(self, delivery: Delivery, call: Call) -> bool:
        """Give a redelivery to the execution that still runs here, as its own delivery was lost with a connection."""
        for execution in self._held.executions():
            is_same = execution.call.id == call.id and execution.call.deadline == call.deadline
            if is_same and execution.result is None and not execution.delivery.is_ours:
                self._held.accept(delivery)
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
        return self._held.has_work and not self.is_stuck

    def on_started_long_ago(self, execution: Execution) -> None:
        """Announce an execution of a quick task that runs longer than usual."""
        self._settlement.announce(execution)

    def on_decided(self, execution: Execution) -> None:
        """Settle an execution whose result is decided, although its task may still be cleaning up.

        A call that is retried or requeued waits for the end of that clean-up. Its nested calls end now.
        """
        if execution.scope is not None and (execution.has_ended or not execution.interruption.shields):
            execution.scope.abandon(CALLER_ENDED)
        state = execution.state
        if state.settlement is not OPEN or not state.decisions:
            return
        result = state.decisions[0].result
        if result.runs_again and execution in self._held:
            return
        self._settlement.settle(execution, result)

    def on_ended(self, execution: Execution) -> None:
        """Handle the end of an execution, once: log and settle it, and start the next one."""
        if self._held.remove(execution):
            if execution.state.task is not ENDED:  # an interrupt has kept its own thread from it
                execution.end()
            self._log.end(execution)
            if execution.call.is_job and execution.is_settled:  # its task has cleaned up since
                self._settlement.send_last_progress(execution)
            self._free(execution)
            run_time, queue = execution.times.run_time, execution.delivery.queue
            if run_time is not None and self._flow.prefetch[queue].observe(run_time):
                self._flow.apply(queue)
            if not self._executor.takes:
                self._executor.fill()
        elif self._held.remove_abandoned(execution):
            execution.end()
            self._log.end(execution)
            self._settlement.send_last_progress(execution)
            if execution.scope is not None:
                execution.scope.abandon(CALLER_ENDED)  # it has made calls inside a shield

    def on_stuck(self, execution: Execution) -> None:
        """Handle a task that runs on after its grace: free its slot, if the executor can; else replace the process."""
        if execution not in self._held:
            return
        logger.error(
            "task runs on %g s after its interrupt call_id=%s task=%s stack:%s",
            self._grace,
            execution.call.id,
            execution.task.name,
            Lines(self._executor.stack(execution)),
        )
        self.is_stuck = not self._executor.can_abandon(execution)
        self._held.abandon(execution)
        needs_replacement = self.is_stuck or self._zombies_now() > self._zombies
        if needs_replacement:
            self._flow.refuse()
        self._free(execution)
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
        if self._held.is_full(self._executor.slots):
            self.on_busy()

    # --- cancelling -------------------------------------------------------------------------------------------------

    def cancel(self, control: Control) -> None:
        """Interrupt or drop the call that `control` cancels, if it runs or waits here."""
        reason = reason_of(control)
        for execution in [one for one in self._held.executions() if control.is_about(one.call)]:
            if not execution.has_begun:
                execution.interrupt(reason)  # the executor skips it
            else:
                self._watchdog.interrupt(execution, reason)
                self._shared_state.note_limit(execution)
            self.on_decided(execution)

    def cancel_revoked_jobs(self) -> None:
        """Cancel the jobs here that their stores have revoked."""
        jobs = {one.call.id for one in self._held.executions() if one.call.is_job}
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
        for execution in self._held.running():
            self._watchdog.interrupt(execution, InterruptReason.DRAIN)
            self._shared_state.note_limit(execution)

    def settle_all(self) -> None:
        """Settle all executions, including tasks that run on after their interrupt and end with the process."""
        for execution in self._held.executions():
            self._held.abandon(execution)
            self._free(execution)

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
            _log_unacknowledged(self._held.running(), patience, now=time.monotonic())
        for execution in self._withdraw() + self._held.executions():
            self._settlement.lose(execution)
        self._held.lose_deliveries()

    # --- parts of the above -----------------------------------------------------------------------------------------

    def _free(self, execution: Execution) -> None:
        """Settle an execution that has no slot any more, and resume."""
        if execution.slot is not None:  # the main thread has cleared it before
            self._shared_state.end(execution)
        self.on_decided(execution)
        if self._flow.is_paused:
            self._flow.resume()

    def _zombies_now(self) -> int:
        """Number of abandoned executions whose tasks still run."""
        for execution in self._held.abandoned():
            if self._executor.has_left(execution):
                self.on_ended(execution)
        return len(self._held.abandoned())

    def _withdraw(self) -> list[Execution]:
        """Remove and return executions that have not started, except those that are acknowledged or decided already."""
        withdrawn = []
        for execution in self._buffer.withdraw():
            if execution.is_acknowledged or execution.result is not None:
                self._buffer.put(execution)
            else:
                self._held.remove(execution)
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
