"""Flow control: how many deliveries the broker may send, and when it may send none."""

import msgspec
import pytest

from crew.amqp import Delivery
from crew.worker.consumer.flow_control import FlowControl
from crew.worker.consumer.prefetch import LEVELS, SETTLED
from crew.worker.execution.held import Held
from tests.support.deliveries import a_delivery
from tests.support.links import FakeLink, never

QUICK = 0.0001  # seconds of an execution
SLOW = 1.0


class Flow:
    """Flow control of the queues `a` and `b`, with a fake link."""

    def __init__(self, *, slots: int = 2, fixed: int | None = None, rooms: dict[str, int] | None = None) -> None:
        self.link, self.held = FakeLink(), Held()
        self.control = FlowControl(
            self.link.as_link(),
            ["a", "b"],
            never,
            on_refused=never,
            held=self.held,
            slots=slots,
            fixed=fixed,
            rooms=rooms or {},
        )

    def accepts(self, queue: str, count: int = 1) -> None:
        """Accept deliveries, which are held from now on."""
        for _ in range(count):
            self.held.accept(msgspec.structs.replace(a_delivery(), queue=queue))

    def observe(self, queue: str, seconds: float, count: int = SETTLED) -> None:
        """Run executions of this duration."""
        for _ in range(count):
            if self.control.prefetch[queue].observe(seconds):
                self.control.apply(queue)

    async def requests(self) -> tuple[dict[str, int], list[str]]:
        """The prefetch that was requested for each queue, and the paused queues, since the last look."""
        await self.control._consumption.wait_applied()
        found = dict(self.link.consumed), sorted(self.link.paused)
        self.link.consumed, self.link.paused = [], []
        return found


def first_prefetch(flow: Flow) -> dict[str, int]:
    """The prefetch of each queue at the first connection."""
    return {queue: consumer.prefetch for queue, consumer in flow.link.consumers.items()}


@pytest.mark.parametrize(
    ("fixed", "rooms", "expected"),
    [
        (None, {}, {"a": 2, "b": 2}),
        (None, {"a": 3}, {"a": 5, "b": 2}),
        (7, {}, {"a": 7, "b": 7}),
        (7, {"b": 3}, {"a": 7, "b": 10}),
    ],
)
def test_a_queue_may_send_as_many_deliveries_as_there_are_slots_and_room(
    fixed: int | None, rooms: dict[str, int], expected: dict[str, int]
) -> None:
    assert first_prefetch(Flow(slots=2, fixed=fixed, rooms=rooms)) == expected


@pytest.mark.gen_test
async def test_a_queue_of_quick_tasks_may_send_more_and_the_other_queue_may_not() -> None:
    flow = Flow(slots=2)
    assert not flow.control.prefetch["a"].is_quick
    flow.observe("a", QUICK)
    assert (flow.control.prefetch["a"].is_quick, flow.control.prefetch["b"].is_quick) == (True, False)
    assert await flow.requests() == ({"a": 2 + LEVELS[-1]}, [])
    flow.observe("a", SLOW, 1)
    assert not flow.control.prefetch["a"].is_quick
    assert await flow.requests() == ({"a": 2}, [])


@pytest.mark.gen_test
async def test_a_fixed_prefetch_does_not_follow_the_run_time() -> None:
    flow = Flow(fixed=5)
    flow.observe("a", QUICK)
    assert await flow.requests() == ({}, [])
    assert flow.control.prefetch["a"].is_quick


@pytest.mark.gen_test
async def test_a_pause_stops_the_queues_that_could_send_more() -> None:
    """The broker sends nothing from a queue whose prefetch is used up: a request would be for nothing."""
    flow = Flow(slots=2)
    flow.accepts("a", 2)
    flow.accepts("b", 1)
    flow.control.pause()
    assert not flow.control.is_open
    assert await flow.requests() == ({}, ["b"])


@pytest.mark.gen_test
async def test_after_a_pause_the_queues_have_the_prefetch_of_their_present_run_time() -> None:
    flow = Flow(slots=2)
    flow.control.pause()
    await flow.requests()
    flow.observe("a", QUICK)
    assert await flow.requests() == ({}, []), "nothing is requested during the pause"
    flow.control.resume()
    assert flow.control.is_open
    assert await flow.requests() == ({"a": 2 + LEVELS[-1], "b": 2}, [])


@pytest.mark.gen_test
async def test_a_resume_without_a_pause_requests_nothing() -> None:
    flow = Flow()
    flow.observe("a", QUICK)
    await flow.requests()
    flow.control.resume()
    assert await flow.requests() == ({}, [])


@pytest.mark.gen_test
async def test_a_queue_that_sends_in_spite_of_a_pause_is_paused_again() -> None:
    """A reconnect may have restored its consumer just before the pause."""
    flow = Flow()
    flow.control.pause()
    assert await flow.requests() == ({}, ["a", "b"])
    flow.control.pause_again("a")
    assert await flow.requests() == ({}, ["a"])


@pytest.mark.gen_test
async def test_close_pauses_all_queues_for_good_whatever_they_hold() -> None:
    flow = Flow(slots=1)
    flow.accepts("a")
    await flow.control.close()
    assert not flow.control.is_open
    assert sorted(flow.link.paused) == ["a", "b"], "the broker has paused them when close returns"
    await flow.requests()
    flow.observe("b", QUICK)
    flow.control.pause()
    flow.control.resume()
    assert await flow.requests() == ({}, [])
    assert not flow.control.is_open


@pytest.mark.gen_test
async def test_the_repr_names_the_state() -> None:
    flow = Flow()
    states = [repr(flow.control)]
    flow.control.pause()
    states.append(repr(flow.control))
    await flow.control.close()
    states.append(repr(flow.control))
    assert [text.split()[1].rstrip(":") for text in states] == ["open", "paused", "closed"]


def test_deliveries_and_refused_messages_go_to_their_callbacks() -> None:
    link, taken, refused = FakeLink(), [], []

    def take(delivery: Delivery) -> None:
        taken.append(delivery)

    def refuse(delivery: Delivery) -> None:
        refused.append(delivery)

    FlowControl(link.as_link(), ["a"], take, on_refused=refuse, held=Held(), slots=1, fixed=None)
    consumer = link.consumers["a"]
    assert (consumer.queue, consumer.on_delivery, consumer.on_refused) == ("a", take, refuse)
