"""Cases: channels and connections that end."""

from tests.support.contract.bench import Bench


def a_closed_channel_returns_its_messages(bench: Bench) -> None:
    name, channel = bench.queue(), bench.new_channel()
    bench.publish(name, "a")
    bench.get(name, ack=False, channel=channel)
    channel.close()
    got = bench.take(name)
    assert (got.body, got.redelivered) == ("a", True)


def a_closed_connection_returns_its_messages(bench: Bench) -> None:
    name, other = bench.queue(), bench.new_connection()
    bench.publish(name, "a")
    bench.get(name, ack=False, channel=other.channel())
    assert bench.depth(name) == 0
    other.close()
    assert bench.take(name).redelivered


def returned_messages_keep_their_order(bench: Bench) -> None:
    name, channel = bench.queue(), bench.new_channel()
    bench.publish(name, *"abc")
    for _ in range(2):
        bench.get(name, ack=False, channel=channel)
    channel.close()
    bench.wait_depth(name, 3)
    assert bench.bodies(name) == list("abc")


def another_consumer_gets_what_a_closed_channel_held(bench: Bench) -> None:
    name = bench.queue()
    first = bench.consume(name)
    bench.publish(name, "a")
    first.bodies(1)
    second = bench.consume(name)
    first.channel.close()
    assert second.bodies(1) == ["a"]
    assert second.got[0].redelivered


def a_channel_error_returns_the_messages_of_the_channel(bench: Bench) -> None:
    name = bench.queue()
    bench.publish(name, "a")

    def use(channel: object) -> None:
        bench.get(name, ack=False, channel=channel)

    assert bench.error(use)[0] == 404
    assert bench.take(name).redelivered


def queues_outlive_their_connection(bench: Bench) -> None:
    name, other = bench.name(), bench.new_connection()
    other.channel().queue_declare(name, durable=True)
    other.close()
    assert bench.exists(name)
    bench.channel.queue_delete(name)


def a_lost_consumer_is_not_counted(bench: Bench) -> None:
    name, other = bench.queue(), bench.new_connection()
    channel = other.channel()
    channel.basic_consume(name, print)
    assert bench.consumers(name) == 1
    other.close()
    bench.wait_until(lambda: bench.consumers(name) == 0)
