"""Cases: the order in which messages are delivered."""

from tests.support.contract.bench import Bench


def messages_are_delivered_in_order(bench: Bench) -> None:
    name = bench.queue()
    bench.publish(name, *"abcd")
    assert bench.bodies(name) == list("abcd")


def priorities_do_nothing_without_the_argument(bench: Bench) -> None:
    name = bench.queue()
    bench.publish(name, "low", priority=0)
    bench.publish(name, "high", priority=9)
    assert bench.bodies(name) == ["low", "high"]


def larger_priorities_come_first(bench: Bench) -> None:
    name = bench.queue(max_priority=3)
    for priority in (0, 2, 1, 3):
        bench.publish(name, str(priority), priority=priority)
    assert bench.bodies(name) == ["3", "2", "1", "0"]


def equal_priorities_keep_their_order(bench: Bench) -> None:
    name = bench.queue(max_priority=1)
    for body in ("a0", "b1", "c0", "d1"):
        bench.publish(name, body, priority=int(body[1]))
    assert bench.bodies(name) == ["b1", "d1", "a0", "c0"]


def a_priority_above_the_maximum_is_the_maximum(bench: Bench) -> None:
    name = bench.queue(max_priority=2)
    bench.publish(name, "two", priority=2)
    bench.publish(name, "nine", priority=9)
    bench.publish(name, "one", priority=1)
    assert bench.bodies(name) == ["two", "nine", "one"]


def no_priority_is_zero(bench: Bench) -> None:
    name = bench.queue(max_priority=2)
    bench.publish(name, "none")
    bench.publish(name, "one", priority=1)
    assert bench.bodies(name) == ["one", "none"]


def a_delivered_message_is_not_overtaken(bench: Bench) -> None:
    name = bench.queue(max_priority=2)
    consumer = bench.consume(name, prefetch=1)
    bench.publish(name, "low", priority=0)
    consumer.bodies(1)
    bench.publish(name, "high", priority=2)
    consumer.channel.basic_ack(consumer.got[0].tag)
    assert consumer.bodies(2) == ["low", "high"]


def a_requeued_message_is_first_again(bench: Bench) -> None:
    name = bench.queue()
    bench.publish(name, *"abc")
    got = bench.get(name, ack=False)
    assert got is not None
    bench.channel.basic_nack(got.tag)
    bench.wait_depth(name, 3)
    assert bench.bodies(name) == list("abc")


def requeued_messages_keep_their_order(bench: Bench) -> None:
    name = bench.queue()
    bench.publish(name, *"abcd")
    tags = [got.tag for _ in range(3) if (got := bench.get(name, ack=False))]
    bench.channel.basic_nack(tags[-1], multiple=True)
    bench.wait_depth(name, 4)
    assert bench.bodies(name) == list("abcd")


def a_requeued_message_keeps_its_priority(bench: Bench) -> None:
    name = bench.queue(max_priority=1)
    bench.publish(name, "high", priority=1)
    bench.publish(name, "low", priority=0)
    got = bench.get(name, ack=False)
    assert got is not None
    bench.channel.basic_nack(got.tag)
    bench.wait_depth(name, 2)
    assert bench.bodies(name) == ["high", "low"]
