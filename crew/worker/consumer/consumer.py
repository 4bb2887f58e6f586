"""Deliveries in, executions out, and what they came to on its way back. All of it on the I/O thread.

One delivery: read it -> may it run? -> buffer -> an executor runs it -> reply, confirmed -> ack. What may not run is
answered at once. A worker takes from a queue of each of its tasks, and must not sit on what others could run: when no
slot has been free for a while, what has not started goes back, and nothing more is taken until a slot is free.
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
    """Serves `tasks` in `executor`.

    Args:
        link: the link that consumes.
        broker_clock: compares this host's clock with the broker's.
        canceled: the calls that are not to be started.
        zombies: executions that may go on after their grace without a slot, while others take theirs.
        fixed_prefetch: window of each queue, or None to follow the measured run time.
        rooms: queue -> deliveries that are held besides, which wait without a slot.
        on_worn_out: told when this process has to be replaced.
        decode: what this worker accepts.
        max_message: bytes that an encoded value may have.
        debug: tell callers where a task was when its time was over.

    Attributes:
        is_stuck: the executor cannot go on without a task that nothing ends.
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
        jobs: JobReports,
        grace: float,
        zombies: int,
        fixed_prefetch: int | None,
        rooms: Mapping[str, int] = MappingProxyType({}),
        on_worn_out: Callable[[], None],
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
        self._on_worn_out = on_worn_out
        self._log = ExecutionLog()
        self._in_hand: set[Execution] = set()
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
        self._answers = Settlement(replies, retries, jobs, self._flow, where=executor.stack if debug else None)
        self._revoked = revoked
        self._admission = Admission(shared_state, revoked, self._answers, self._flow, jobs.revocation_sync)

    def __repr__(self) -> str:
        return f"<TaskConsumer: {len(self._in_hand)} in hand, {len(self._buffer)} of them not started>"

    # --- deliveries in ----------------------------------------------------------------------------------------------

    def on_delivery(self, delivery: Delivery) -> None:
        """A call has arrived."""
        if not self._flow.takes:
            self._turn_away(delivery)
            return
        task = self._tasks[delivery.queue]
        try:
            call = properties.to_call(task.name, delivery.properties, delivery.body, make_id=new_id)
        except properties.MalformedMessage as error:
            self._answers.refuse_malformed(delivery, task.name, error)
            return
        call = self._with_skew(call, delivery)
        self._flow.take(delivery.queue)
        if delivery.redelivered and self._runs_on(call, delivery):
            return
        self._admission.ask(delivery, call, task, self._take)

    def on_refused(self, delivery: Delivery) -> None:
        """A message has arrived that is not signed, though messages have to be: it is not run, and not answered."""
        self._answers.park_refused(delivery)

    def _with_skew(self, call: Call, delivery: Delivery) -> Call:
        """`call`, with the difference between the sender's clock and this one, where there is any."""
        own = self._clock.offset
        if call.clock is None and own is IN_STEP:
            return call
        skew = clock.skew(sender=call.clock, published=delivery.properties.timestamp, own=own, now=time.time())
        return msgspec.structs.replace(call, skew=skew)

    def _take(self, delivery: Delivery, call: Call, task: Task, crashes: int) -> Execution | None:
        """It may run: put it into the buffer, from which the executor takes it. Returns its execution."""
        execution = Execution(delivery, call, task, crashes=crashes, decode=self._decode, max_message=self._max_message)
        if execution.runs_once and not call.is_job and not self._in_hand:
            self._answers.end_delivery(execution)  # it starts at once: the executor need not say so
        self._in_hand.add(execution)
        self._buffer.put(execution)
        self._executor.fill()
        self._watchdog.wake()
        return execution

    def _runs_on(self, call: Call, delivery: Delivery) -> bool:
        """Whether it runs here, since before its delivery was lost with a connection: then this one takes its place."""
        for execution in self._in_hand:
            is_same = execution.call.id == call.id and execution.call.deadline == call.deadline
            if is_same and execution.result is None and not execution.delivery.is_ours:
                execution.delivery = delivery
                if execution.is_acked:  # on the lost channel, so that the broker has not heard of it
                    self._answers.release(delivery)
                return True
        return False

    def _turn_away(self, delivery: Delivery) -> None:
        """It came while nothing is taken: back, and let its queue send no more."""
        self._flow.refuse(delivery.queue)
        delivery.requeue()

    # --- events of executors and watchdog -----------------------------------------------------------------------------

    def has_work(self) -> bool:
        """Whether anything runs that may end, or waits to run."""
        return bool(self._in_hand) and not self.is_stuck

    def announces(self, execution: Execution) -> bool:
        """Whether `on_started` tells its caller: not where it is known to end in a moment.

        A job whose delivery ends with its start is in no queue then: where its whole host died before that was said,
        nobody would know that it does not wait any longer.
        """
        needs_word = execution.call.is_job and execution.runs_once
        is_quick = self._flow.is_quick(execution.delivery.queue)
        return not execution.is_announced and (needs_word or not is_quick)

    def ends_delivery(self, execution: Execution) -> bool:
        """Whether `on_started` acknowledges it."""
        return execution.runs_once and not execution.is_acked

    def on_started(self, execution: Execution, is_awaited: bool = True) -> None:
        """It runs. A call that runs at most once ends its delivery here, or does not run where it cannot.

        Its caller is told, unless it is known to end in a moment: a task that never lets this thread run again could
        not be told of later.

        Args:
            is_awaited: whether the task begins only after this.
        """
        if self.ends_delivery(execution) and not self._answers.end_delivery(execution) and is_awaited:
            execution.decide(REDELIVERED)
        elif self.announces(execution):
            self._answers.announce(execution)
        self._watchdog.wake_by(execution.limit)

    def on_started_long_ago(self, execution: Execution) -> None:
        """The caller should know that it has started."""
        self._answers.announce(execution)

    def on_decided(self, execution: Execution) -> None:
        """What it came to is certain, though it may still be cleaning up.

        Where it is to run elsewhere, that waits for the end of its clean-up. Its own calls end with it.
        """
        if execution.scope is not None and (execution.has_ended or not execution.shields):
            execution.scope.abandon(CALLER_ENDED)
        ended = execution.result
        if execution.is_answered or ended is None or (ended.runs_again and execution in self._in_hand):
            return
        execution.is_answered = True
        self._answers.give(execution, ended)

    def on_ended(self, execution: Execution) -> None:
        """Nothing of it runs any longer."""
        self._log.end(execution)
        self._answers.send_last_progress(execution)
        if execution in self._in_hand:
            self._executor.release(execution)
            self._let_go(execution)
            self._learn(execution)
            self._executor.fill()
        elif execution.scope is not None:
            execution.scope.abandon(CALLER_ENDED)  # it went on without a slot, and has called somebody under a shield

    def on_stuck(self, execution: Execution) -> None:
        """It goes on after its grace: others get its slot, as long as the executor can bear that."""
        if execution not in self._in_hand:
            return
        logger.error(
            "%r goes on %g s after its interrupt. It is at:%s",
            execution,
            self._grace,
            Lines(self._executor.stack(execution)),
        )
        self.is_stuck = not self._executor.abandon(execution)
        is_worn_out = self.is_stuck or self._executor.abandoned() > self._zombies
        self._flow.is_closed |= is_worn_out
        self._let_go(execution)
        if is_worn_out:
            self._on_worn_out()
        else:
            self._executor.fill()

    def on_busy(self) -> None:
        """No slot has been free for a while: what waits here could run elsewhere."""
        if not self._flow.rests:
            self.give_back()
            self._flow.rest()

    def on_nested_call(self) -> None:
        """A task here waits for another. Without a free slot, that one is not to wait here until we are known busy."""
        if len(self._executor.running()) >= self._executor.slots:
            self.on_busy()

    # --- cancelling -------------------------------------------------------------------------------------------------

    def cancel(self, control: Control) -> None:
        """Stop the call that `control` cancels, where it runs or waits here."""
        reason = reason_of(control)
        for execution in [one for one in self._in_hand if control.is_about(one.call)]:
            if execution.started is None:
                execution.interrupt(reason)  # the executor passes it over
            else:
                self._watchdog.interrupt(execution, reason)
                self._shared_state.note_limit(execution)
            self.on_decided(execution)

    def cancel_revoked_jobs(self) -> None:
        """Stop the jobs here that a store has named as given up."""
        jobs = {one.call.id for one in self._in_hand if one.call.is_job}
        for id in filter(self._revoked.is_revoked_job, jobs):
            self.cancel(Control(id=id, reason=InterruptReason.CANCELED, is_job=True))

    # --- draining ---------------------------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Take nothing more, and give back what has not started."""
        self.give_back()
        await self._flow.close()

    def give_back(self) -> None:
        """Requeue what has not started."""
        for execution in self._withdraw():
            self._answers.requeue(execution.delivery)

    def interrupt_all(self) -> None:
        """Interrupt what runs, so that it runs elsewhere."""
        for execution in self._executor.running():
            self._watchdog.interrupt(execution, InterruptReason.DRAIN)
            self._shared_state.note_limit(execution)

    def give_up(self) -> None:
        """What goes on after its interrupt ends with the process: its caller is answered."""
        for execution in list(self._in_hand):
            self._let_go(execution)

    def stop(self) -> None:
        """Watch no more."""
        self._watchdog.stop()
        self._log.flush()

    def on_lost(self, patience: float | None = None) -> None:
        """The deliveries went with the link: what has not started comes again.

        Args:
            patience: seconds that a delivery may wait for its acknowledgement, where one has waited longer.
        """
        if patience is not None:
            _log_unacknowledged(self._executor.running(), patience, now=time.monotonic())
        self._withdraw()
        self._flow.forget()

    # --- pieces -----------------------------------------------------------------------------------------------------

    def _let_go(self, execution: Execution) -> None:
        """It has no slot any longer."""
        self._in_hand.discard(execution)
        self._shared_state.end(execution)
        self.on_decided(execution)
        self._flow.go_on()

    def _learn(self, execution: Execution) -> None:
        """Let the window of its queue follow how long it ran."""
        if execution.run_time is not None:
            self._flow.learn(execution.delivery.queue, execution.run_time)

    def _withdraw(self) -> list[Execution]:
        """What has not started, out of hand; what is acknowledged or decided already stays: nobody else runs it."""
        withdrawn = []
        for execution in self._buffer.withdraw():
            if execution.is_acked or execution.result is not None:
                self._buffer.put(execution)
            else:
                self._in_hand.discard(execution)
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
        if ran >= timeout and not execution.is_acked:
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
