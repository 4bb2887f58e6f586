"""Cases: confirms, returns, limits, and what a message keeps."""

from typing import Any

import pika

from tests.support.contract.bench import Bench


def a_message_is_confirmed(bench: Bench) -> None:
    assert bench.publish(bench.queue()) == "ack"


def a_message_without_a_queue_is_confirmed(bench: Bench) -> None:
    assert bench.publish(bench.name("absent")) == "ack"


def a_mandatory_message_without_a_queue_is_returned(bench: Bench) -> None:
    assert bench.publish(bench.name("absent"), mandatory=True) == "returned"


def a_mandatory_message_with_a_queue_is_not_returned(bench: Bench) -> None:
    assert bench.publish(bench.queue(), mandatory=True) == "ack"


def a_returned_message_has_its_body_and_properties(bench: Bench) -> None:
    try:
        bench.channel.basic_publish(
            "", bench.name("absent"), b"body", pika.BasicProperties(message_id="7"), mandatory=True
        )
    except pika.exceptions.UnroutableError as error:
        (returned,) = error.messages
    assert (returned.body, returned.properties.message_id) == (b"body", "7")
    assert (returned.method.reply_code, returned.method.reply_text) == (312, "NO_ROUTE")


def an_absent_exchange_closes_the_channel(bench: Bench) -> None:
    code, text = bench.error(lambda channel: channel.basic_publish(bench.name("absent"), "k", b""))
    assert code == 404
    assert "no exchange" in text


def an_invalid_expiration_closes_the_channel(bench: Bench) -> None:
    name, properties = bench.queue(), pika.BasicProperties(expiration="soon")
    code, text = bench.error(lambda channel: channel.basic_publish("", name, b"", properties))
    assert code == 406
    assert "invalid expiration" in text


def another_users_id_closes_the_channel(bench: Bench) -> None:
    name, properties = bench.queue(), pika.BasicProperties(user_id="somebody")
    code, text = bench.error(lambda channel: channel.basic_publish("", name, b"", properties))
    assert code == 406
    assert "user_id property set to 'somebody'" in text


def a_cc_header_that_is_no_array_closes_the_channel(bench: Bench) -> None:
    name, properties = bench.queue(), pika.BasicProperties(headers={"CC": "q"})
    assert bench.error(lambda channel: channel.basic_publish("", name, b"", properties))[0] == 406


def all_properties_arrive(bench: Bench) -> None:
    name = bench.queue()
    given: dict[str, Any] = {
        "content_type": "application/json",
        "content_encoding": "gzip",
        "delivery_mode": 2,
        "correlation_id": "c",
        "reply_to": "r",
        "message_id": "m",
        "timestamp": 1234567890,
        "type": "call",
        "app_id": "crew",
    }
    bench.publish(name, **given)
    got = bench.take(name).properties
    assert {key: getattr(got, key) for key in given} == given


def headers_of_all_types_arrive(bench: Bench) -> None:
    name = bench.queue()
    headers = {"text": "ä", "number": 7, "negative": -1, "big": 2**40, "yes": True, "list": [1, "a"], "table": {"a": 1}}
    bench.publish(name, headers=headers)
    assert bench.take(name).headers == headers


def an_empty_body_arrives(bench: Bench) -> None:
    name = bench.queue()
    bench.publish(name, "")
    assert bench.take(name).body == ""


def a_body_of_several_frames_arrives(bench: Bench) -> None:
    name, body = bench.queue(), "x" * 300_000
    bench.publish(name, body)
    assert bench.take(name).body == body


def a_message_has_its_exchange_and_key(bench: Bench) -> None:
    exchange = bench.exchange("topic")
    queue = bench.bound(exchange, "#")
    bench.publish("a.b", exchange=exchange)
    got = bench.take(queue)
    assert (got.exchange, got.routing_key) == (exchange, "a.b")


def a_full_queue_drops_its_head(bench: Bench) -> None:
    name = bench.queue(max_length=2)
    assert bench.publish(name, "a", "b", "c") == "ack"
    assert bench.bodies(name) == ["b", "c"]


def a_dropped_head_is_a_dead_letter(bench: Bench) -> None:
    name, dead = bench.with_dead_letters(max_length=1)
    bench.publish(name, "a", "b")
    got = bench.take(dead)
    assert (got.body, got.deaths) == ("a", [(name, "maxlen", 1)])


def a_full_queue_may_refuse(bench: Bench) -> None:
    name = bench.queue(max_length=1, overflow="reject-publish")
    assert bench.publish(name, "a") == "ack"
    assert bench.publish(name, "b") == "nack"
    assert bench.bodies(name) == ["a"]


def a_queue_with_room_again_takes_messages(bench: Bench) -> None:
    name = bench.queue(max_length=1, overflow="reject-publish")
    bench.publish(name, "a", "b")
    bench.take(name)
    assert bench.publish(name, "c") == "ack"


def a_refused_message_is_no_dead_letter(bench: Bench) -> None:
    name, dead = bench.with_dead_letters(max_length=1, overflow="reject-publish")
    assert bench.publish(name, "a", "b") == "nack"
    assert bench.depth(dead) == 0


def a_refused_message_may_be_a_dead_letter(bench: Bench) -> None:
    name, dead = bench.with_dead_letters(max_length=1, overflow="reject-publish-dlx")
    assert bench.publish(name, "a", "b") == "nack"
    assert bench.take(dead).body == "b"


def a_queue_may_be_limited_by_bytes(bench: Bench) -> None:
    name = bench.queue(max_length_bytes=10)
    bench.publish(name, "1234567", "abcdefg")
    assert bench.bodies(name) == ["abcdefg"]


def what_is_delivered_does_not_count_for_the_limit(bench: Bench) -> None:
    name = bench.queue(max_length=1, overflow="reject-publish")
    bench.consume(name)
    assert [bench.publish(name, body) for body in "abc"] == ["ack"] * 3


def a_nack_follows_when_one_of_two_queues_refuses(bench: Bench) -> None:
    exchange = bench.exchange("fanout")
    full = bench.queue("full", max_length=1, overflow="reject-publish")
    bench.channel.queue_bind(full, exchange, "")
    other = bench.bound(exchange, "", "other")
    bench.publish("", "a", exchange=exchange)
    assert bench.publish("", "b", exchange=exchange) == "nack"
    bench.wait_depth(other, 2)
