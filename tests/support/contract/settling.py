"""Cases: acknowledging, rejecting and requeueing."""

from tests.support.contract.bench import Bench, Got


def _held(bench: Bench, queue: str, count: int = 1) -> list[Got]:
    held = [bench.get(queue, ack=False) for _ in range(count)]
    return [one for one in held if one is not None]


def _lose(bench: Bench, queue: str) -> None:
    """Have a message delivered to a consumer that ends without settling it."""
    consumer = bench.consume(queue)
    consumer.bodies(1)
    consumer.channel.connection.process_data_events(0)
    consumer.channel.close()


def an_acknowledged_message_is_gone(bench: Bench) -> None:
    name = bench.queue()
    bench.publish(name)
    (got,) = _held(bench, name)
    bench.channel.basic_ack(got.tag)
    bench.channel.basic_recover(requeue=True)
    assert bench.depth(name) == 0


def an_unacknowledged_message_is_not_ready(bench: Bench) -> None:
    name = bench.queue()
    bench.publish(name, "a", "b")
    _held(bench, name)
    assert bench.depth(name) == 1


def several_messages_are_acknowledged_at_once(bench: Bench) -> None:
    name = bench.queue()
    bench.publish(name, *"abc")
    held = _held(bench, name, 3)
    bench.channel.basic_ack(held[1].tag, multiple=True)
    bench.channel.basic_recover(requeue=True)
    assert bench.bodies(name) == ["c"]


def tag_zero_acknowledges_all(bench: Bench) -> None:
    name = bench.queue()
    bench.publish(name, *"abc")
    _held(bench, name, 3)
    bench.channel.basic_ack(0, multiple=True)
    bench.channel.basic_recover(requeue=True)
    assert bench.depth(name) == 0


def a_requeued_message_is_redelivered(bench: Bench) -> None:
    name = bench.queue()
    bench.publish(name)
    (got,) = _held(bench, name)
    assert not got.redelivered
    bench.channel.basic_nack(got.tag)
    assert bench.take(name).redelivered


def a_rejected_message_may_be_requeued(bench: Bench) -> None:
    name = bench.queue()
    bench.publish(name)
    (got,) = _held(bench, name)
    bench.channel.basic_reject(got.tag, requeue=True)
    assert bench.take(name).redelivered


def a_rejected_message_is_gone(bench: Bench) -> None:
    name = bench.queue()
    bench.publish(name)
    (got,) = _held(bench, name)
    bench.channel.basic_reject(got.tag, requeue=False)
    assert bench.depth(name) == 0


def a_rejected_message_is_a_dead_letter(bench: Bench) -> None:
    name, dead = bench.with_dead_letters()
    bench.publish(name, "a")
    (got,) = _held(bench, name)
    bench.channel.basic_reject(got.tag, requeue=False)
    letter = bench.take(dead)
    assert (letter.body, letter.deaths) == ("a", [(name, "rejected", 1)])


def several_messages_are_rejected_at_once(bench: Bench) -> None:
    name, dead = bench.with_dead_letters()
    bench.publish(name, *"abc")
    held = _held(bench, name, 3)
    bench.channel.basic_nack(held[1].tag, multiple=True, requeue=False)
    assert [bench.take(dead).body for _ in range(2)] == ["a", "b"]


def a_rejected_dead_letter_may_go_in_a_circle(bench: Bench) -> None:
    name = bench.name()
    bench.queue(dead_letter_exchange="", dead_letter_routing_key=name)
    bench.publish(name, "a")
    (got,) = _held(bench, name)
    bench.channel.basic_reject(got.tag, requeue=False)
    assert bench.take(name).deaths == [(name, "rejected", 1)]


def the_newest_death_is_first(bench: Bench) -> None:
    last = bench.queue("last")
    middle = bench.queue("middle", dead_letter_exchange="", dead_letter_routing_key=last)
    name = bench.queue(dead_letter_exchange="", dead_letter_routing_key=middle)
    bench.publish(name)
    for queue in (name, middle):
        bench.wait_depth(queue, 1)
        (got,) = _held(bench, queue)
        bench.channel.basic_reject(got.tag, requeue=False)
    letter = bench.take(last)
    assert letter.deaths == [(middle, "rejected", 1), (name, "rejected", 1)]
    assert letter.headers["x-first-death-queue"] == name


def a_second_death_in_the_same_queue_is_counted(bench: Bench) -> None:
    first, second = bench.name("first"), bench.name("second")
    bench.queue("first", dead_letter_exchange="", dead_letter_routing_key=second)
    bench.queue("second", dead_letter_exchange="", dead_letter_routing_key=first)
    bench.publish(first)
    for queue in (first, second, first):
        bench.wait_depth(queue, 1)
        (got,) = _held(bench, queue)
        bench.channel.basic_reject(got.tag, requeue=False)
    assert bench.take(second).deaths == [(first, "rejected", 2), (second, "rejected", 1)]


def an_unknown_tag_closes_the_channel(bench: Bench) -> None:
    code, text = bench.error(lambda channel: channel.basic_ack(77))
    assert code == 406
    assert "unknown delivery tag 77" in text


def a_second_acknowledgement_closes_the_channel(bench: Bench) -> None:
    name, channel = bench.queue(), bench.new_channel()
    bench.publish(name)
    got = bench.get(name, ack=False, channel=channel)
    assert got is not None
    channel.basic_ack(got.tag)

    def again(_: object) -> None:
        channel.basic_ack(got.tag)
        channel.queue_declare(name, passive=True)

    assert bench.error(again)[0] == 406


def a_recover_redelivers_everything(bench: Bench) -> None:
    name = bench.queue()
    bench.publish(name, *"ab")
    _held(bench, name, 2)
    bench.channel.basic_recover(requeue=True)
    bench.wait_depth(name, 2)
    assert bench.bodies(name) == ["a", "b"]


def a_get_counts_what_is_left(bench: Bench) -> None:
    name = bench.queue()
    bench.publish(name, *"abc")
    method, _, _ = bench.channel.basic_get(name, auto_ack=True)
    assert method.message_count == 2


def tags_count_per_channel(bench: Bench) -> None:
    name = bench.queue()
    bench.publish(name, *"ab")
    tags = [got.tag for _ in range(2) if (got := bench.get(name, channel=bench.new_channel()))]
    assert tags == [1, 1]


def a_quorum_queue_counts_deliveries(bench: Bench) -> None:
    name = bench.queue(queue_type="quorum")
    bench.publish(name)
    _lose(bench, name)
    assert bench.take(name).headers["x-delivery-count"] == 1


def a_quorum_queue_gives_up_at_its_limit(bench: Bench) -> None:
    name, dead = bench.with_dead_letters(queue_type="quorum", delivery_limit=1)
    bench.publish(name)
    for _ in range(2):
        _lose(bench, name)
    assert bench.take(dead).deaths == [(name, "delivery_limit", 1)]
