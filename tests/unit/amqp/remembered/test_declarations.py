"""Declarations of many items over several channels: round trips, order and refusals."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from pika.exceptions import ChannelClosedByBroker

from crew.amqp.channel import Channel
from crew.amqp.errors import LinkError, LinkRefused
from crew.amqp.remembered.consumers import Consumer, Consumers
from crew.amqp.remembered.declarations import CHANNELS, Declarations
from crew.protocol.topology import Binding, Item, Queue, task_queue
from tests.support.links import ignored
from tests.support.pika_channel import Ends, OneChannelConnection, PikaChannel, a_channel, an_open_channel
from tests.support.waiting import until

OTHER_ARGUMENTS = "PRECONDITION_FAILED - inequivalent arg 'x-max-priority' for queue 'crew.tasks.t25' in vhost '/'"
NO_PERMISSION = "ACCESS_REFUSED - access to queue 'crew.tasks.t25' in vhost '/' refused for user 'crew'"
TOO_MANY_CHANNELS = "NOT_ALLOWED - number of channels opened for user 'crew' has reached the maximum allowed (10)"


class Broker:
    """A broker that answers the requests of all channels together, once in each round trip.

    Attributes:
        refusals: names of queues -> code and text with which it closes the channel.
        channel_limit: number of channels after which it refuses another one.
        opened: all channels that were opened.
        round_trips: times that it has answered.
        most_at_once: largest number of requests that it has answered at once.
        requests: names of all requests for declarations, in their order.
    """

    def __init__(self) -> None:
        self.refusals: dict[str, tuple[int, str]] = {}
        self.channel_limit = 1_000
        self.opened: list[PikaChannel] = []
        self.round_trips = 0
        self.most_at_once = 0
        self.requests: list[str] = []
        self._due: list[Callable[[], None]] = []

    async def open_channel(self) -> Channel:
        """Open another channel."""
        if len(self.opened) >= self.channel_limit:
            raise LinkError(TOO_MANY_CHANNELS, code=530)
        connection = OneChannelConnection()
        connection.opened = pika = _Channel(self)
        self.opened.append(pika)
        channel = a_channel(connection, Ends())
        await channel.open()
        return channel

    def answer_later(self, answer: Callable[[], None]) -> None:
        """Call `answer` with the next round trip."""
        if not self._due:
            loop = asyncio.get_running_loop()
            loop.call_later(0.001, self._answer)
        self._due.append(answer)

    def declared(self, kind: str = "queue_declare", key: str = "queue") -> list[str]:
        """Names of the items that were declared, not passively."""
        return [one[key] for pika in self.opened for (one,) in pika.did(kind) if not one.get("passive")]

    def _answer(self) -> None:
        due, self._due = self._due, []
        self.round_trips += 1
        self.most_at_once = max(self.most_at_once, len(due))
        for answer in due:
            answer()


class _Channel(PikaChannel):
    """A channel of a Broker."""

    def __init__(self, broker: Broker) -> None:
        super().__init__()
        self._broker = broker

    def _ask(self, what: str, arguments: Any, callback: Callable[[Any], None]) -> None:
        self.requests.append((what, arguments))
        self._broker.requests.append(what)
        refusal = self._broker.refusals.get(arguments.get("queue", "")) if what == "queue_declare" else None
        if refusal is None or (arguments["passive"] and refusal[0] == 406):
            self._broker.answer_later(lambda: callback(None))
        else:
            self._broker.answer_later(lambda: self.break_off(ChannelClosedByBroker(*refusal)))


def some_tasks(count: int) -> list[Item]:
    """The queues of `count` tasks, and a queue that is bound once for each of them."""
    queues: list[Item] = [task_queue(f"t{number}") for number in range(count)]
    return [*queues, Queue("control"), *(Binding("control", "crew.control", f"task.t{n}") for n in range(count))]


def declarations_at(broker: Broker) -> Declarations:
    """Declarations that are made at `broker`."""
    return Declarations((), broker.open_channel, queue_type="classic", renewal_interval=30.0)


@pytest.mark.gen_test(timeout=20)
async def test_a_thousand_tasks_are_declared_in_few_round_trips() -> None:
    broker = Broker()
    await declarations_at(broker).declare(some_tasks(1_000))
    assert broker.round_trips <= 2 * (1 + 1_000 // CHANNELS + 1)
    assert broker.most_at_once == CHANNELS, "and not all at once"
    assert len(broker.declared()) == len(set(broker.declared())) == 1_001
    assert not any(pika.is_open for pika in broker.opened)


@pytest.mark.gen_test(timeout=20)
async def test_bindings_are_declared_after_all_queues() -> None:
    broker = Broker()
    await declarations_at(broker).declare([*reversed(some_tasks(50))])
    assert broker.requests == ["queue_declare"] * 51 + ["queue_bind"] * 50


@pytest.mark.gen_test(timeout=20)
async def test_the_few_items_of_a_small_worker_are_declared_in_order_over_one_channel() -> None:
    broker = Broker()
    await declarations_at(broker).declare(some_tasks(5))
    assert len(broker.opened) == 1
    assert broker.declared() == [f"crew.tasks.t{number}" for number in range(5)] + ["control"]


@pytest.mark.gen_test(timeout=20)
async def test_processes_that_start_together_create_queues_in_different_orders() -> None:
    brokers = [Broker(), Broker()]
    for broker in brokers:
        await declarations_at(broker).declare(some_tasks(200))
    first, second = (broker.declared() for broker in brokers)
    assert first != second
    assert set(first) == set(second)


@pytest.mark.gen_test(timeout=20)
async def test_one_queue_with_other_arguments_among_fifty_is_used_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    broker = Broker()
    broker.refusals["crew.tasks.t25"] = 406, OTHER_ARGUMENTS
    await declarations_at(broker).declare(some_tasks(50))
    assert len(set(broker.declared())) == 51
    assert len(broker.declared("queue_bind", "routing_key")) == 50
    (warning,) = caplog.records
    assert "queue crew.tasks.t25 exists with other arguments and is used as it is" in warning.message
    assert "`crew queues migrate t25`" in warning.message


@pytest.mark.gen_test(timeout=20)
async def test_a_refused_queue_among_fifty_is_named_and_leaves_no_channel_open() -> None:
    broker = Broker()
    broker.refusals["crew.tasks.t25"] = 403, NO_PERMISSION
    with pytest.raises(LinkRefused, match=r"user 'crew' may not use queue 'crew\.tasks\.t25'"):
        await declarations_at(broker).declare(some_tasks(50))
    assert not any(pika.is_open for pika in broker.opened)


@pytest.mark.gen_test(timeout=20)
async def test_a_broker_that_allows_few_channels_is_asked_for_one_the_next_time() -> None:
    broker = Broker()
    broker.channel_limit = 3
    declarations = declarations_at(broker)
    with pytest.raises(LinkError, match="maximum allowed"):
        await declarations.declare(some_tasks(50))
    broker.opened.clear()
    await declarations.declare(some_tasks(50))
    assert len(broker.opened) == 1
    assert len(broker.declared()) == 51


@pytest.mark.gen_test(timeout=20)
async def test_all_consumers_of_a_connection_are_started_with_one_wait() -> None:
    consumers = Consumers()
    for number in range(1_000):
        consumers.remember(Consumer(f"q{number}", ignored, 4))
    channel, pika, _ = await an_open_channel()
    pika.answers = False
    starting = asyncio.ensure_future(consumers.catch_up({}, channel, of=consumers.queues))
    for _ in range(2):  # the prefetch of all of them, and the last consumer
        await until(lambda: len(pika.waiting) == 1)
        pika.waiting.pop()(None)
    assert await starting
    assert [queue for (queue,) in pika.did("basic_consume")] == [f"q{number}" for number in range(1_000)]


@pytest.mark.gen_test
@pytest.mark.parametrize("other_prefetch", [4, 5])
async def test_a_refused_consumer_that_was_not_waited_for_is_the_error_of_the_next_request(other_prefetch: int) -> None:
    consumers = Consumers()
    for name in ("missing", "present"):
        consumers.remember(Consumer(name, ignored, 4 if name == "missing" else other_prefetch))
    channel, pika, _ = await an_open_channel()
    pika.answers = False
    starting = asyncio.ensure_future(consumers.catch_up({}, channel, of=consumers.queues))
    await until(lambda: len(pika.waiting) == 1)
    pika.waiting.pop()(None)
    await until(lambda: len(pika.waiting) == 1)
    pika.break_off(ChannelClosedByBroker(404, "NOT_FOUND - no queue 'missing' in vhost '/'"))
    with pytest.raises(LinkError, match="no queue 'missing'"):
        await starting
