"""The consumer in random orders of delivery, start, end, interrupt, confirm, requeue and loss of the connection.

Each execution follows its table in any order, because an illegal transition raises. Beyond that, this checks what the
broker and the callers see.
"""

import asyncio
import collections
import time
from collections.abc import Callable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from crew.amqp import ConfirmStatus, Delivery
from crew.protocol import properties
from crew.protocol.encoding import codec
from crew.protocol.message import Call, Control, Reply
from crew.worker.execution.execution import Execution
from tests.support.deliveries import RecordingChannel, a_delivery, run
from tests.support.waiting import until
from tests.unit.worker.consumer.test_consumer import Worker

SLOTS = 2
ROUNDS = 5  # of the event loop: enough for a retry to be published


class Orders(RuleBasedStateMachine):
    """The test plays broker, executor and callers of one consumer."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.calls: dict[str, Call] = {}
        self.deliveries: dict[Delivery, str] = {}  # over the present connection -> id of the call
        self.runs: collections.Counter[str] = collections.Counter()  # id -> executions
        self.started: set[Execution] = set()
        self.ended: list[Execution] = []

    @initialize()
    def open(self) -> None:
        """Start the worker."""

        def make() -> None:
            self.worker = Worker(slots=SLOTS)

        self.do(make)

    def do(self, step: Callable[[], object]) -> None:
        """Call `step` on the event loop, and let its tasks go on."""

        async def run() -> None:
            step()
            for _ in range(ROUNDS):
                await asyncio.sleep(0)

        self.loop.run_until_complete(run())

    def deliver(self, call: Call, *, redelivered: bool) -> None:
        """Deliver `call`."""
        given = properties.of_call(call, now=time.time())
        delivery = a_delivery(self.worker.channel, properties=given, body=call.body.data, redelivered=redelivered)
        self.deliveries[delivery] = call.id
        before = set(self.worker.executor.held.executions())
        self.do(lambda: self.worker.consumer.on_delivery(delivery))
        self.runs.update(one.call.id for one in set(self.worker.executor.held.executions()) - before)

    def nth(self, number: int) -> Execution | None:
        """One of the running executions."""
        running = self.worker.executor.executions
        return running[number % len(running)] if running else None

    # --- events -----------------------------------------------------------------------------------------------------

    def is_connected(self) -> bool:
        """Whether the broker can deliver."""
        return self.worker.channel.is_open

    @precondition(is_connected)
    @rule(runs_once=st.booleans())
    def receive(self, runs_once: bool) -> None:
        """A caller makes a call."""
        id = f"call {len(self.calls)}"
        self.calls[id] = call = Call(
            id=id,
            task="t",
            body=codec.encode(None),
            reply_to="crew.reply.me",
            persistent=not runs_once,
            deadline=time.time() + 60,
        )
        self.deliver(call, redelivered=False)

    @rule(number=st.integers(0, SLOTS))
    def start(self, number: int) -> None:
        """The start of a running execution is handled."""
        execution = self.nth(number)
        if execution is not None and execution not in self.started:
            self.started.add(execution)
            self.do(lambda: self.worker.shared_state.begin(0, execution))
            self.do(lambda: self.worker.consumer.starts.handle(execution))

    @rule(number=st.integers(0, SLOTS), is_reported=st.booleans())
    def end(self, number: int, is_reported: bool) -> None:
        """A task ends; if it is not reported, the watchdog finds that later."""
        execution = self.nth(number)
        if execution is not None:
            if execution.result is None:
                run(execution)
            self.ended.append(execution)
            if is_reported:
                self.do(lambda: self.worker.consumer.on_ended(execution))

    @rule()
    def find_ends(self) -> None:
        """The watchdog reports each end, some of them for the second time."""
        for execution in self.ended:
            self.do(lambda execution=execution: self.worker.consumer.on_ended(execution))  # type: ignore[misc]

    @rule(number=st.integers(0, 5))
    def cancel(self, number: int) -> None:
        """A caller cancels its call."""
        if self.calls:
            call = list(self.calls.values())[number % len(self.calls)]
            self.do(lambda: self.worker.consumer.cancel(Control(id=call.id, reason="canceled", deadline=call.deadline)))

    @rule()
    def interrupt_all(self) -> None:
        """The worker interrupts its tasks, as at the end of a drain."""
        self.do(self.worker.consumer.interrupt_all)

    @rule()
    def be_busy(self) -> None:
        """No slot was free for a while."""
        self.do(self.worker.consumer.on_busy)
        self.redeliver_requeued()

    @rule()
    def confirm(self) -> None:
        """The broker confirms all that was published."""
        self.do(self.worker.publishing.confirm_all)

    @rule()
    def break_connection(self) -> None:
        """The connection breaks, and the worker has not noticed that yet."""
        self.worker.channel.is_open = False

    @rule()
    def lose_connection(self) -> None:
        """The connection is lost; over the next one the broker delivers again what was not acknowledged."""
        lost, self.deliveries = self.deliveries, {}
        channel = self.worker.channel
        channel.is_open = False
        self.do(self.worker.consumer.on_lost)
        self.worker.channel = RecordingChannel()
        for delivery, id in lost.items():
            if delivery.tag not in channel.acked:
                self.deliver(self.calls[id], redelivered=True)

    def redeliver_requeued(self) -> None:
        """The broker delivers again what was requeued; while the worker is paused, it requeues that at once."""
        if self.worker.consumer._flow.is_open and self.is_connected():
            channel = self.worker.channel
            for delivery, id in list(self.deliveries.items()):
                if delivery.tag in channel.requeued:
                    del self.deliveries[delivery]
                    self.deliver(self.calls[id], redelivered=True)

    # --- what is seen from outside ----------------------------------------------------------------------------------

    def replies(self) -> list[Reply]:
        """The final replies that the broker has confirmed, or may confirm."""
        return self.worker.replies()

    @invariant()
    def no_delivery_is_settled_twice(self) -> None:
        settled = [*self.worker.channel.acked, *self.worker.channel.requeued]
        assert len(settled) == len(set(settled))

    @invariant()
    def no_execution_has_two_replies(self) -> None:
        for id, count in collections.Counter(reply.id for reply in self.replies()).items():
            assert count <= self.runs[id]

    @invariant()
    def no_call_that_may_run_again_is_acknowledged_before_its_reply_is_confirmed(self) -> None:
        confirmed = {
            one.properties.correlation_id
            for one in self.worker.publishing.published
            if one.confirm.status is ConfirmStatus.CONFIRMED
        }
        for delivery, id in self.deliveries.items():
            if delivery.tag in self.worker.channel.acked and self.calls[id].persistent:
                assert id in confirmed

    @invariant()
    def the_record_has_each_delivery_that_is_neither_acknowledged_nor_requeued(self) -> None:
        channel = self.worker.channel
        held = {one for one in self.deliveries if one.tag not in channel.acked and one.tag not in channel.requeued}
        assert set(self.worker.executor.held._deliveries) == held

    def teardown(self) -> None:
        """Each execution ends, and nothing is held any more."""
        if not self.is_connected():
            self.lose_connection()
        held = self.worker.executor.held
        while held.has_work or held._deliveries:
            self.loop.run_until_complete(until(self.has_next_end, timeout=5))
            if held.has_work:
                self.end(0, is_reported=True)
        assert all(one.result is not None for one in self.ended)
        answered = {reply.id for reply in self.replies()} | self.published_again()
        requeued = {id for delivery, id in self.deliveries.items() if delivery.tag in self.worker.channel.requeued}
        assert set(self.calls) == answered | requeued
        self.do(self.worker.consumer.stop)
        self.loop.close()

    def has_next_end(self) -> bool:
        """Whether an execution can end now, or nothing is held any more: redeliveries wait for the crash count."""
        self.worker.publishing.confirm_all()
        held = self.worker.executor.held
        return held.has_work or not held._deliveries

    def published_again(self) -> set[str | None]:
        """Ids of the calls that were published again."""
        return {one.properties.correlation_id for one in self.worker.publishing.published if one.key != "crew.reply.me"}


Orders.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
test_random_orders = Orders.TestCase
