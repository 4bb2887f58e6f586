"""The rules of the in-memory broker, without I/O and with a clock that the test sets."""

from typing import Any

import pytest

from crew.testing.broker.broker import Broker
from crew.testing.broker.channel import Channel
from crew.testing.broker.errors import ChannelClosed
from crew.testing.broker.message import Message


class Client:
    """A client of one channel; it records what the broker sends."""

    def __init__(self, broker: Broker) -> None:
        self.deliveries: list[tuple[int, str, bool]] = []
        self.returns: list[int] = []
        self.confirms: list[tuple[int, bool]] = []
        self.canceled: list[str] = []
        self.channel: Channel = broker.open_channel(self, owner=self)

    def on_delivery(self, consumer_tag: str, delivery_tag: int, *, redelivered: bool, message: Message) -> None:
        self.deliveries.append((delivery_tag, message.body.decode(), redelivered))

    def on_return(self, message: Message, code: int, text: str) -> None:
        self.returns.append(code)

    def on_confirm(self, number: int, *, is_taken: bool) -> None:
        self.confirms.append((number, is_taken))

    def on_cancel(self, consumer_tag: str) -> None:
        self.canceled.append(consumer_tag)

    def publish(self, key: str, body: str = "m", *, exchange: str = "", mandatory: bool = False, **given: Any) -> None:
        message = Message(exchange=exchange, routing_key=key, properties=given, body=body.encode())
        self.channel.publish(message, mandatory=mandatory)


class World:
    """A broker, a client, and the time."""

    def __init__(self) -> None:
        self.now = 100.0
        self.broker = Broker(clock=lambda: self.now, wall=lambda: 1_000_000.0 + self.now)
        self.client = Client(self.broker)

    def queue(self, name: str = "q", **arguments: Any) -> str:
        given = {f"x-{key.replace('_', '-')}": value for key, value in arguments.items()}
        return self.broker.declare_queue(name, owner=self.client, arguments=given).name

    def depth(self, name: str) -> int:
        return len(self.broker.queues[name])

    def pass_time(self, seconds: float) -> None:
        """Let time pass as a server does: the broker is called when it is due."""
        until = self.now + seconds
        while (due := self.broker.due_at) is not None and due <= until:
            self.now = max(self.now, due)
            self.broker.on_time()
        self.now = until


@pytest.fixture
def world() -> World:
    return World()


def test_a_message_expires_exactly_at_its_time(world: World) -> None:
    world.client.publish(world.queue(), expiration="3600000")
    world.pass_time(3599.9)
    assert world.depth("q") == 1
    world.pass_time(0.1)
    assert world.depth("q") == 0


def test_nothing_is_due_in_a_broker_that_only_holds(world: World) -> None:
    world.client.publish(world.queue())
    assert world.broker.due_at is None


def test_the_broker_is_due_when_the_first_head_expires(world: World) -> None:
    world.client.publish(world.queue("a"), expiration="5000")
    world.client.publish(world.queue("b"), expiration="2000")
    assert world.broker.due_at == 102.0


def test_an_unused_queue_expires_and_a_use_prolongs_its_life(world: World) -> None:
    world.queue(expires=10_000)
    world.pass_time(9)
    world.broker.declare_queue("q", owner=world.client, passive=True)
    world.pass_time(9)
    assert "q" in world.broker.queues
    world.pass_time(1)
    assert "q" not in world.broker.queues


def test_a_death_has_the_wall_time_in_whole_seconds(world: World) -> None:
    world.queue("dead")
    world.queue(dead_letter_exchange="", dead_letter_routing_key="dead")
    world.client.publish("q", expiration="1500")
    world.pass_time(2)
    (entry,) = world.broker.queues["dead"]
    assert entry.message.headers["x-death"][0]["time"].timestamp() == 1_000_101


def test_confirms_count_from_one_and_only_when_asked(world: World) -> None:
    world.client.publish(world.queue())
    world.client.channel.confirms = True
    world.client.publish("q")
    assert world.client.confirms == [(2, True)]


def test_a_return_comes_before_its_confirm(world: World) -> None:
    world.client.channel.confirms = True
    world.client.publish("absent", mandatory=True)
    assert (world.client.returns, world.client.confirms) == ([312], [(1, True)])


def test_a_delivery_tag_is_known_once(world: World) -> None:
    world.client.publish(world.queue())
    world.client.channel.consume("q", "c")
    world.broker.queues["q"].deliver()
    world.client.channel.ack(1)
    with pytest.raises(ChannelClosed, match="unknown delivery tag 1"):
        world.client.channel.ack(1)


def test_a_closed_channel_gives_back_what_it_held(world: World) -> None:
    world.client.publish(world.queue())
    world.client.channel.consume("q", "c")
    world.broker.queues["q"].deliver()
    assert world.depth("q") == 0
    world.client.channel.close()
    assert [entry.is_redelivered for entry in world.broker.queues["q"]] == [True]


def test_a_consumer_of_a_deleted_queue_is_canceled(world: World) -> None:
    world.queue()
    world.client.channel.consume("q", "c")
    world.broker.delete_queue("q", owner=world.client)
    assert world.client.canceled == ["c"]


def test_an_exclusive_queue_is_deleted_with_its_owner(world: World) -> None:
    world.broker.declare_queue("q", owner=world.client, exclusive=True)
    with pytest.raises(ChannelClosed, match="RESOURCE_LOCKED"):
        world.broker.queue("q", object())
    world.broker.close_owner(world.client)
    assert world.broker.queues == {}


def test_a_refused_declaration_names_both_values(world: World) -> None:
    world.queue(message_ttl=1)
    with pytest.raises(ChannelClosed, match=r"inequivalent arg 'x-message-ttl'.*received '2' but current is '1'"):
        world.queue(message_ttl=2)


def test_a_broker_tells_its_state_in_words(world: World) -> None:
    world.client.publish(world.queue())
    assert repr(world.broker) == "<Broker: 1 queues, 1 messages>"
    assert repr(world.broker.queues["q"]) == "<Queue q: 1 messages, 0 unacked, 0 consumers>"
