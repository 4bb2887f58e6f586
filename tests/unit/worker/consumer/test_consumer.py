"""The consumer, from a delivery to its reply and acknowledgement, with a fake executor and fake links."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from crew.amqp import ConfirmStatus, Delivery
from crew.protocol import failure, properties, topology
from crew.protocol.encoding import codec
from crew.protocol.message import Body, Call, Outcome, Reply
from crew.protocol.properties import Properties
from crew.worker.consumer.admission import MAX_DELIVERIES
from crew.worker.consumer.consumer import TaskConsumer
from crew.worker.consumer.revoked_calls import RevokedCalls
from crew.worker.execution.execution import Execution
from crew.worker.executors.buffer import Buffer
from crew.worker.job_reports.jobs import JobReports
from crew.worker.mailbox import Mailbox
from crew.worker.replies.reply_publisher import ReplyPublisher
from crew.worker.replies.retry_publisher import RetryPublisher
from crew.worker.retry_policy import Retry
from crew.worker.shared_state.shared_state import SharedState
from tests.support.deliveries import RecordingChannel, a_delivery, a_task, an_execution, run
from tests.support.executors import PlayedExecutor
from tests.support.links import FakeLink, Published
from tests.support.waiting import until


class TakingExecutor(PlayedExecutor):
    """Takes executions from the buffer while slots are free; the test ends them."""

    def __init__(self, buffer: Buffer, slots: int) -> None:
        super().__init__(slots=slots)
        self._buffer = buffer
        self.on_ended: Callable[[Execution], None]

    def fill(self) -> None:
        while len(self.executions) < self.slots and (execution := self._buffer.take_nowait()) is not None:
            if execution.result is None:
                self.begin(execution)
            else:
                asyncio.get_running_loop().call_soon(self.on_ended, execution)


class Worker:
    """A consumer of the tasks `t` and `other`, with fake links and a fake executor."""

    def __init__(
        self,
        *,
        slots: int = 1,
        prefetch: int | None = None,
        retry: Retry | None = None,
        long: bool = False,
        grace: float = 5.0,
        zombies: int = 1,
        debug: bool = False,
        is_briefed: bool = True,
    ) -> None:
        self.publishing, self.consuming = FakeLink(), FakeLink()
        replies = ReplyPublisher(self.publishing.as_link(), "w")
        self.channel = RecordingChannel()
        self.buffer = Buffer()
        self.executor = TakingExecutor(self.buffer, slots)
        self.shared_state = SharedState(1, 100)
        self.revoked = RevokedCalls()
        self.worn_out = 0
        self.jobs = JobReports(
            "w",
            ["t", "other"],
            publishing=self.publishing.as_link(),
            replies=replies,
            mailbox=Mailbox(asyncio.get_running_loop()),
        )
        if is_briefed:
            self.jobs.stop()
        self.consumer = TaskConsumer(
            [a_task(lambda data: data and int(data), name=name, retry=retry, long=long) for name in ("t", "other")],
            link=self.consuming.as_link(),
            replies=replies,
            retries=RetryPublisher(self.publishing.as_link(), replies),
            held=self.executor.held,
            buffer=self.buffer,
            executor=self.executor,
            shared_state=self.shared_state,
            revoked=self.revoked,
            job_reports=self.jobs,
            grace=grace,
            zombies=zombies,
            fixed_prefetch=prefetch,
            on_replacement_needed=self.on_replacement_needed,
            debug=debug,
        )
        self.executor.on_ended = self.consumer.on_ended

    def receives(self, task: str = "t", *, redelivered: bool = False, **fields: Any) -> Delivery:
        """Deliver a call."""
        call = Call(**{"id": "17", "task": task, "body": codec.encode(None), "reply_to": "crew.reply.me", **fields})
        given = properties.of_call(call, now=time.time())
        return self.receives_message(given, call.body.data, task=task, redelivered=redelivered)

    def receives_message(self, given: Properties, body: bytes = b"", **delivery: Any) -> Delivery:
        """Deliver any message."""
        delivered = a_delivery(self.channel, properties=given, body=body, **delivery)
        self.consumer.on_delivery(delivered)
        return delivered

    def on_replacement_needed(self) -> None:
        """Count the requests to replace the process."""
        self.worn_out += 1

    def finish(self, execution: Execution | None = None) -> None:
        """Run an execution to its end; the first one by default."""
        execution = execution or self.executor.executions[0]
        run(execution)
        self.consumer.on_ended(execution)

    def all_replies(self) -> list[Reply]:
        """All replies to callers so far, including announced starts."""
        found = [properties.to_reply(one.properties, one.body) for one in self.sent_to("crew.reply.me")]
        return [reply for reply in found if isinstance(reply, Reply)]

    def replies(self) -> list[Reply]:
        """Final replies so far."""
        return [reply for reply in self.all_replies() if reply.outcome is not Outcome.STARTED]

    def outcomes(self) -> list[tuple[str, Outcome]]:
        """Id and outcome of the final replies so far."""
        return [(reply.id, reply.outcome) for reply in self.replies()]

    def starts(self, id: str = "17", **fields: Any) -> Execution:
        """Deliver a call and start it."""
        self.receives(id=id, **fields)
        (execution,) = [one for one in self.executor.executions if one.call.id == id]
        self.shared_state.begin(0, execution)
        self.consumer.starts.handle(execution)
        return execution

    def sent_to(self, queue: str) -> list[Published]:
        """Messages published to a queue."""
        return [one for one in self.publishing.published if one.key == queue]


@pytest.mark.gen_test
async def test_a_call_runs_gets_its_reply_and_is_then_acknowledged() -> None:
    worker = Worker()
    delivery = worker.receives()
    worker.finish()
    (reply,) = worker.replies()
    assert (reply.id, reply.outcome) == ("17", Outcome.RETURNED)
    assert worker.channel.acked == []
    worker.publishing.confirm_all()
    assert worker.channel.acked == [delivery.tag]
    assert not worker.consumer.has_work()


@pytest.mark.gen_test
async def test_a_call_that_expired_in_its_queue_gets_a_reply_and_never_starts() -> None:
    worker = Worker()
    delivery = worker.receives(deadline=time.time() - 0.001)
    assert worker.executor.executions == []
    assert [reply.outcome for reply in worker.replies()] == [Outcome.EXPIRED]
    worker.publishing.confirm_all()
    assert worker.channel.acked == [delivery.tag]


@pytest.mark.gen_test
async def test_a_call_without_reply_to_and_id_runs() -> None:
    worker = Worker()
    delivery = worker.receives_message(Properties(content_type=codec.JSON), b"1")
    worker.finish()
    assert worker.channel.acked == [delivery.tag]
    assert worker.publishing.published == []


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "given",
    [
        Properties(correlation_id="17", reply_to="crew.reply.me", headers={"crew-deadline": "soon"}),
        Properties(correlation_id="17", reply_to="crew.reply.me", headers={"crew-timeout": [3]}),
        msgspec.convert({"headers": None}, Properties),
    ],
    ids=["a deadline in words", "a list as a timeout", "nothing wrong"],
)
async def test_a_malformed_message_is_parked_and_gets_a_reply_and_blocks_nothing(given: Properties) -> None:
    """One after the other: both have the same id, and a returned reply must not be taken for the parked message."""
    worker = Worker()
    malformed = given.headers is not None
    worker.receives_message(given, b"1")
    assert len(worker.sent_to("crew.parked")) == malformed
    assert worker.replies() == []
    worker.publishing.confirm_all()
    assert [reply.outcome for reply in worker.replies()] == [Outcome.RAISED] * malformed
    if malformed:
        assert len(worker.channel.acked) == 1
    assert worker.consumer.has_work() is not malformed


@pytest.mark.gen_test
async def test_a_message_with_a_header_name_that_is_not_utf_8_blocks_nothing() -> None:
    worker = Worker()
    headers: Any = {b"\xff": 1}
    worker.receives_message(Properties(headers=headers, content_type=codec.JSON), b"1")
    assert worker.executor.executions or worker.sent_to("crew.parked")


@pytest.mark.gen_test
async def test_a_call_that_killed_three_processes_is_parked_and_its_caller_gets_an_error() -> None:
    worker = Worker()
    for _ in range(MAX_DELIVERIES):
        execution = an_execution()
        execution.call = msgspec.structs.replace(execution.call, id="17")
        worker.shared_state.begin(0, execution)
        worker.shared_state.record_crash(0, -9)
    delivery = worker.receives(redelivered=True)
    assert worker.executor.executions == []
    (parked,) = worker.sent_to("crew.parked")
    assert (parked.properties.headers or {})["crew-exit-status"] == "SIGKILL"
    assert worker.replies() == [], "the message is parked before the caller gets its reply"
    parked.confirm.settle(ConfirmStatus.CONFIRMED)
    (reply,) = worker.replies()
    assert reply.outcome is Outcome.WORKER_LOST
    assert "was killed by SIGKILL" in failure.decode(reply.body.data).message
    assert worker.channel.acked == []
    worker.publishing.confirm_all()
    assert worker.channel.acked == [delivery.tag]


@pytest.mark.gen_test
async def test_a_call_that_killed_one_process_runs_again_if_it_is_persistent() -> None:
    for persistent, runs in ((True, 1), (False, 0)):
        worker = Worker()
        execution = an_execution()
        execution.call = msgspec.structs.replace(execution.call, id="17")
        worker.shared_state.begin(0, execution)
        worker.shared_state.record_crash(0, -9)
        worker.receives(redelivered=True, persistent=persistent)
        assert len(worker.executor.executions) == runs
        if runs:
            assert worker.executor.executions[0].attempt == 2
        else:
            assert [reply.outcome for reply in worker.replies()] == [Outcome.WORKER_LOST]
        worker.consumer.stop()


@pytest.mark.gen_test
@pytest.mark.parametrize("persistent", [True, False])
async def test_a_retried_call_is_acknowledged_when_the_broker_has_confirmed_the_retry(persistent: bool) -> None:
    worker = Worker(retry=Retry(retries=1))
    delivery = worker.receives(persistent=persistent, body=codec.encode("no number"))
    worker.finish()
    await until(lambda: worker.sent_to(delivery.queue))
    assert worker.channel.acked == ([] if persistent else [delivery.tag])
    worker.publishing.confirm_all()
    await until(lambda: worker.sent_to("crew.reply.me"))  # announced once
    assert worker.replies() == []
    assert worker.channel.acked == [delivery.tag]


@pytest.mark.gen_test
async def test_the_last_attempt_gets_a_reply() -> None:
    worker = Worker(retry=Retry(retries=1))
    delivery = worker.receives(attempt=2, body=codec.encode("no number"))
    worker.finish()
    (reply,) = worker.replies()
    assert (reply.outcome, failure.decode(reply.body.data).attempts) == (Outcome.RAISED, 2)
    assert worker.sent_to(delivery.queue) == []


@pytest.mark.gen_test
async def test_a_retry_that_no_worker_takes_in_time_is_a_timeout_not_an_expiration() -> None:
    worker = Worker()
    worker.receives(deadline=time.time() - 0.001, attempt=2)
    assert [reply.outcome for reply in worker.replies()] == [Outcome.TIMED_OUT]


@pytest.mark.gen_test
async def test_crashes_and_retries_both_count_as_attempts() -> None:
    """Each execution of a call has a larger number than the one before."""
    worker = Worker()
    execution = an_execution()
    execution.call = msgspec.structs.replace(execution.call, id="17")
    worker.shared_state.begin(0, execution)
    worker.shared_state.record_crash(0, -9)
    worker.receives(attempt=2)
    assert worker.executor.executions[0].attempt == 3
    worker.consumer.stop()


@pytest.mark.gen_test
async def test_the_crashes_of_a_call_do_not_count_for_another_call_of_the_same_id() -> None:
    """Otherwise a requeued call that never ran would be refused."""
    worker = Worker()
    execution = an_execution()
    execution.call = msgspec.structs.replace(execution.call, id="nightly", message_id="yesterday")
    execution.times.limit = time.monotonic() - 9
    worker.shared_state.begin(0, execution)
    worker.shared_state.record_kill(0, worker.shared_state.overdue(0, time.monotonic()), -9)
    worker.receives(id="nightly", message_id="today", redelivered=True)
    assert worker.executor.executions[0].attempt == 1
    worker.consumer.stop()


@pytest.mark.gen_test
async def test_a_requeued_delivery_does_not_count_as_an_attempt() -> None:
    worker = Worker()
    worker.receives(redelivered=True)
    assert worker.executor.executions[0].attempt == 1
    worker.consumer.stop()


@pytest.mark.gen_test
async def test_a_call_that_is_not_persistent_is_acknowledged_when_it_starts() -> None:
    worker = Worker()
    delivery = worker.receives(persistent=False)
    worker.consumer.starts.handle(worker.executor.executions[0])
    assert worker.channel.acked == [delivery.tag]
    worker.finish()
    worker.publishing.confirm_all()
    assert worker.channel.acked == [delivery.tag]
    assert [reply.outcome for reply in worker.replies()] == [Outcome.RETURNED]


@pytest.mark.gen_test
async def test_an_interrupted_call_gets_one_reply_at_once() -> None:
    worker = Worker()
    worker.receives(timeout=0.03)
    execution = worker.executor.executions[0]
    worker.consumer.starts.handle(execution)
    await until(worker.replies)
    assert not execution.has_ended
    worker.finish(execution)
    assert [reply.outcome for reply in worker.replies()] == [Outcome.TIMED_OUT]


@pytest.mark.gen_test
async def test_the_waiting_call_with_the_highest_priority_is_next() -> None:
    worker = Worker()
    worker.receives(id="runs")
    worker.receives(id="ordinary", priority=0)
    worker.receives(id="urgent", priority=255)
    worker.finish()
    assert worker.executor.executions[0].call.id == "urgent"
    worker.consumer.stop()


@pytest.mark.gen_test
async def test_a_worker_without_a_free_slot_requeues_calls_that_others_can_run() -> None:
    worker = Worker()
    worker.receives(id="long")
    waiting = [worker.receives("other", id=f"{number}") for number in range(3)]
    await until(lambda: worker.channel.requeued)
    assert worker.channel.requeued == [delivery.tag for delivery in waiting]
    await until(lambda: topology.task_queue_name("other") in worker.consuming.paused)
    late = worker.receives("other", id="late")
    assert worker.channel.requeued[-1] == late.tag
    worker.finish()
    await until(lambda: topology.task_queue_name("other") in worker.consuming.consumers)
    worker.receives("other", id="next")
    assert worker.executor.executions[0].call.id == "next"
    worker.consumer.stop()


@pytest.mark.gen_test
async def test_a_drain_takes_no_new_calls_and_finishes_running_ones() -> None:
    worker = Worker()
    worker.receives(id="runs")
    waiting = worker.receives(id="waits")
    await worker.consumer.drain()
    assert worker.channel.requeued == [waiting.tag]
    assert set(worker.consuming.paused) == {topology.task_queue_name(name) for name in ("t", "other")}
    late = worker.receives(id="late")
    assert worker.channel.requeued == [waiting.tag, late.tag]
    worker.finish()
    assert [reply.id for reply in worker.replies()] == ["runs"]
    assert not worker.consumer.has_work()


@pytest.mark.gen_test
async def test_a_call_that_a_drain_interrupts_is_requeued() -> None:
    worker = Worker()
    delivery = worker.receives()
    execution = worker.executor.executions[0]
    worker.consumer.interrupt_all()
    worker.finish(execution)
    assert worker.channel.requeued == [delivery.tag]
    assert worker.replies() == []
    worker.consumer.stop()


@pytest.mark.gen_test
async def test_after_a_lost_connection_running_calls_get_replies_and_waiting_ones_are_dropped() -> None:
    worker = Worker()
    worker.receives(id="runs")
    worker.receives(id="waits")
    worker.channel.is_open = False
    worker.consumer.on_lost()
    worker.finish()
    worker.publishing.confirm_all()
    assert [reply.id for reply in worker.replies()] == ["runs"]
    assert worker.channel.acked == worker.channel.requeued == []
    assert not worker.consumer.has_work()
    worker.channel.is_open = True
    worker.receives(id="waits", redelivered=True)
    assert worker.executor.executions[0].call.id == "waits"
    worker.consumer.stop()


@pytest.mark.gen_test
async def test_the_prefetch_of_each_task_follows_its_own_run_time() -> None:
    worker = Worker()
    queue = topology.task_queue_name("t")
    for number in range(50):
        worker.receives(id=f"{number}")
        worker.finish()
    await until(lambda: worker.consuming.consumed)
    assert {name for name, _ in worker.consuming.consumed} == {queue}
    assert worker.consuming.consumed[-1][1] > 1


@pytest.mark.gen_test
async def test_the_caller_gets_the_failure_of_the_task() -> None:
    worker = Worker()
    worker.receives(body=Body(b"{", codec.JSON))
    worker.finish()
    (reply,) = worker.replies()
    assert reply.outcome is Outcome.RAISED
    assert failure.decode(reply.body.data).type_name.endswith("SerializationError")


@pytest.mark.gen_test
async def test_a_redelivered_call_that_still_runs_here_does_not_run_twice() -> None:
    """Its first delivery was lost with a connection."""
    worker = Worker(slots=2)
    deadline = time.time() + 60
    worker.receives(deadline=deadline)
    worker.channel.is_open = False
    worker.consumer.on_lost()
    worker.channel = RecordingChannel()
    again = worker.receives(deadline=deadline, redelivered=True)
    assert len(worker.executor.executions) == 1
    worker.finish()
    worker.publishing.confirm_all()
    assert [reply.outcome for reply in worker.replies()] == [Outcome.RETURNED]
    assert worker.channel.acked == [again.tag]
    other = worker.receives(deadline=deadline + 1, redelivered=True)  # another call of the same id
    worker.finish()
    worker.publishing.confirm_all()
    assert worker.channel.acked == [again.tag, other.tag]
    worker.consumer.stop()
