"""Cases: consumers, prefetch, and exclusive use."""

from collections.abc import Callable

from pika.exceptions import ChannelClosedByBroker

from tests.support.contract.bench import Bench


def a_consumer_receives_what_waits(bench: Bench) -> None:
    name = bench.queue()
    bench.publish(name, *"ab")
    assert bench.consume(name).bodies(2) == ["a", "b"]


def a_consumer_receives_what_comes(bench: Bench) -> None:
    name = bench.queue()
    consumer = bench.consume(name)
    bench.publish(name, *"ab")
    assert consumer.bodies(2) == ["a", "b"]


def a_prefetch_limits_what_is_not_acknowledged(bench: Bench) -> None:
    name = bench.queue()
    consumer = bench.consume(name, prefetch=2)
    bench.publish(name, *"abcd")
    consumer.bodies(2)
    bench.settle()
    assert len(consumer.got) == 2
    assert bench.depth(name) == 2


def an_acknowledgement_makes_room(bench: Bench) -> None:
    name = bench.queue()
    consumer = bench.consume(name, prefetch=1)
    bench.publish(name, *"ab")
    consumer.bodies(1)
    consumer.channel.basic_ack(consumer.got[0].tag)
    assert consumer.bodies(2) == ["a", "b"]


def a_rejection_makes_room(bench: Bench) -> None:
    name = bench.queue()
    consumer = bench.consume(name, prefetch=1)
    bench.publish(name, *"ab")
    consumer.bodies(1)
    consumer.channel.basic_reject(consumer.got[0].tag, requeue=False)
    assert consumer.bodies(2) == ["a", "b"]


def a_prefetch_counts_for_each_consumer(bench: Bench) -> None:
    name = bench.queue()
    channel = bench.new_channel()
    first = bench.consume(name, prefetch=1, channel=channel)
    second = bench.consume(name, channel=channel)
    bench.publish(name, *"abcd")
    bench.wait_until(lambda: len(first.got) == len(second.got) == 1)
    bench.settle()
    assert bench.depth(name) == 2


def a_consumer_without_acknowledgements_has_no_limit(bench: Bench) -> None:
    name = bench.queue()
    consumer = bench.consume(name, prefetch=1, ack=True)
    bench.publish(name, *"abc")
    assert consumer.bodies(3) == list("abc")


def two_consumers_take_turns(bench: Bench) -> None:
    name = bench.queue()
    consumers = [bench.consume(name), bench.consume(name)]
    bench.publish(name, *"abcd")
    bench.wait_until(lambda: sum(len(one.got) for one in consumers) == 4)
    assert [len(one.got) for one in consumers] == [2, 2]


def a_canceled_consumer_receives_nothing_more(bench: Bench) -> None:
    name = bench.queue()
    consumer = bench.consume(name)
    consumer.cancel()
    bench.publish(name)
    assert bench.depth(name) == 1
    assert consumer.got == []


def a_canceled_consumer_may_still_acknowledge(bench: Bench) -> None:
    name = bench.queue()
    bench.publish(name)
    consumer = bench.consume(name)
    consumer.bodies(1)
    tag = consumer.got[0].tag
    consumer.channel.basic_cancel(consumer.tag)
    consumer.channel.basic_ack(tag)
    consumer.channel.close()
    assert bench.depth(name) == 0


def consumers_are_counted(bench: Bench) -> None:
    name = bench.queue()
    consumers = [bench.consume(name), bench.consume(name)]
    assert bench.consumers(name) == 2
    consumers[0].cancel()
    assert bench.consumers(name) == 1


def consuming_an_absent_queue_fails(bench: Bench) -> None:
    assert bench.error(lambda channel: channel.basic_consume(bench.name("absent"), print))[0] == 404


def an_exclusive_consumer_is_the_only_one(bench: Bench) -> None:
    name = bench.queue()
    bench.consume(name, exclusive=True)
    assert bench.error(lambda channel: channel.basic_consume(name, print))[0] == 403


def an_exclusive_consumer_needs_to_be_the_first(bench: Bench) -> None:
    name = bench.queue()
    bench.consume(name)
    assert bench.error(lambda channel: channel.basic_consume(name, print, exclusive=True))[0] == 403


def a_consumer_is_told_that_its_queue_was_deleted(bench: Bench) -> None:
    name = bench.queue()
    consumer = bench.consume(name)
    bench.channel.queue_delete(name)
    bench.wait_until(lambda: consumer.is_canceled)


def an_auto_delete_queue_goes_with_its_last_consumer(bench: Bench) -> None:
    name = bench.name()
    bench.channel.queue_declare(name, auto_delete=True)
    consumers = [bench.consume(name), bench.consume(name)]
    consumers[0].cancel()
    assert bench.exists(name)
    consumers[1].cancel()
    bench.eventually(lambda: not bench.exists(name))


def an_auto_delete_queue_without_a_consumer_stays(bench: Bench) -> None:
    name = bench.name()
    bench.channel.queue_declare(name, auto_delete=True)
    assert bench.exists(name)
    bench.channel.queue_delete(name)


def an_exclusive_queue_is_locked_for_others(bench: Bench) -> None:
    name = bench.name()
    bench.channel.queue_declare(name, exclusive=True)
    other = bench.new_connection().channel()
    code, text = _error_of(lambda: other.queue_declare(name, passive=True))
    assert code == 405
    assert "locked queue" in text


def everybody_may_publish_to_an_exclusive_queue(bench: Bench) -> None:
    name = bench.name()
    bench.channel.queue_declare(name, exclusive=True)
    other = bench.new_connection().channel()
    other.confirm_delivery()
    assert bench.publish(name, channel=other, mandatory=True) == "ack"
    assert bench.take(name).body == "m"


def an_exclusive_queue_goes_with_its_connection(bench: Bench) -> None:
    name, other = bench.name(), bench.new_connection()
    other.channel().queue_declare(name, exclusive=True)
    other.close()
    bench.eventually(lambda: not bench.exists(name))


def a_single_active_consumer_gets_everything(bench: Bench) -> None:
    name = bench.queue(single_active_consumer=True)
    first, second = bench.consume(name), bench.consume(name)
    bench.publish(name, *"abc")
    assert first.bodies(3) == list("abc")
    assert second.got == []


def _error_of(use: Callable[[], object]) -> tuple[int, str]:
    try:
        use()
    except ChannelClosedByBroker as error:
        return error.reply_code, error.reply_text
    raise AssertionError("the broker has closed no channel")
