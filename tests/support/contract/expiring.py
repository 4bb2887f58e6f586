"""Cases: time to live, dead letters, and queues that expire."""

from tests.support.contract.bench import SETTLED, SHORT, Bench

LONG = 60_000  # ms
ANSWERED = 25 * SHORT  # ms: in which a broker does a few steps, on a busy machine


def a_message_expires(bench: Bench) -> None:
    name = bench.queue()
    bench.publish(name, ttl=SHORT)
    bench.wait_depth(name, 0)
    assert bench.get(name) is None


def an_expired_message_is_a_dead_letter(bench: Bench) -> None:
    name, dead = bench.with_dead_letters()
    bench.publish(name, "a", ttl=SHORT)
    got = bench.take(dead)
    assert (got.body, got.deaths) == ("a", [(name, "expired", 1)])


def a_message_does_not_expire_before_its_time(bench: Bench) -> None:
    name, dead = bench.with_dead_letters()
    bench.publish(name, ttl=LONG)
    bench.let_pass()
    assert (bench.depth(name), bench.depth(dead)) == (1, 0)


def a_message_without_a_time_to_live_stays(bench: Bench) -> None:
    name = bench.queue()
    bench.publish(name)
    bench.let_pass()
    assert bench.depth(name) == 1


def a_message_expires_only_at_the_head(bench: Bench) -> None:
    name, dead = bench.with_dead_letters()
    bench.publish(name, "head")
    bench.publish(name, "behind", ttl=SHORT)
    bench.let_pass()
    assert (bench.depth(name), bench.depth(dead)) == (2, 0)


def an_expired_message_behind_goes_with_the_head(bench: Bench) -> None:
    name, dead = bench.with_dead_letters()
    bench.publish(name, "head")
    bench.publish(name, "behind", ttl=SHORT)
    bench.let_pass()
    assert bench.take(name).body == "head"
    assert bench.take(dead).body == "behind"
    assert bench.get(name) is None


def a_longer_life_in_front_delays_a_shorter_one(bench: Bench) -> None:
    name, dead = bench.with_dead_letters()
    bench.publish(name, "long", ttl=6 * SHORT)
    bench.publish(name, "short", ttl=SHORT)
    assert [bench.take(dead).body for _ in range(2)] == ["long", "short"]


def expired_messages_are_dead_letters_in_order(bench: Bench) -> None:
    name, dead = bench.with_dead_letters()
    bench.publish(name, *"abc", ttl=SHORT)
    assert [bench.take(dead).body for _ in range(3)] == list("abc")


def a_higher_priority_in_front_is_late(bench: Bench) -> None:
    name, dead = bench.with_dead_letters(max_priority=1)
    bench.publish(name, "first", priority=0, ttl=ANSWERED)
    bench.publish(name, "second", priority=1, ttl=SHORT)
    bench.let_pass()
    assert (bench.depth(name), bench.depth(dead)) == (2, 0)


def a_dead_message_with_a_higher_priority_is_delivered(bench: Bench) -> None:
    name, dead = bench.with_dead_letters(max_priority=1)
    bench.publish(name, "first", priority=0, ttl=LONG)
    bench.publish(name, "dead", priority=1, ttl=SHORT)
    bench.let_pass()
    assert bench.take(name).body == "dead"
    assert bench.depth(dead) == 0


def a_delivered_message_does_not_expire(bench: Bench) -> None:
    name, dead = bench.with_dead_letters()
    bench.publish(name, ttl=ANSWERED)
    got = bench.get(name, ack=False)
    bench.let_pass(ANSWERED + SETTLED)
    assert got is not None
    assert bench.depth(dead) == 0
    bench.channel.basic_ack(got.tag)


def a_requeued_message_that_is_dead_expires(bench: Bench) -> None:
    name, dead = bench.with_dead_letters()
    bench.publish(name, "a", ttl=ANSWERED)
    got = bench.get(name, ack=False)
    bench.let_pass(ANSWERED + SETTLED)
    assert got is not None
    bench.channel.basic_nack(got.tag)
    assert bench.take(dead).body == "a"


def a_queue_may_limit_the_life_of_its_messages(bench: Bench) -> None:
    name, dead = bench.with_dead_letters(message_ttl=SHORT)
    bench.publish(name)
    assert bench.take(dead).deaths == [(name, "expired", 1)]


def the_shorter_life_counts(bench: Bench) -> None:
    name, dead = bench.with_dead_letters(message_ttl=SHORT)
    bench.publish(name, "a", ttl=LONG)
    assert bench.take(dead).body == "a"


def the_shorter_life_of_a_message_counts_too(bench: Bench) -> None:
    name, dead = bench.with_dead_letters(message_ttl=LONG)
    bench.publish(name, "a", ttl=SHORT)
    assert bench.take(dead).body == "a"


def a_life_of_zero_expires_at_once(bench: Bench) -> None:
    name, dead = bench.with_dead_letters()
    bench.publish(name, "a", ttl=0)
    assert bench.take(dead).body == "a"


def a_dead_letter_has_no_expiration(bench: Bench) -> None:
    name, dead = bench.with_dead_letters()
    bench.publish(name, ttl=SHORT)
    got = bench.take(dead)
    assert got.properties.expiration is None
    assert got.headers["x-death"][0]["original-expiration"] == str(SHORT)


def a_dead_letter_knows_its_first_death(bench: Bench) -> None:
    exchange = bench.exchange("fanout")
    dead = bench.queue("dead")
    name = bench.queue(dead_letter_exchange="", dead_letter_routing_key=dead)
    bench.channel.queue_bind(name, exchange, "")
    bench.publish("k", exchange=exchange, ttl=SHORT)
    headers = bench.take(dead).headers
    first = {key: headers[f"x-first-death-{key}"] for key in ("queue", "reason", "exchange")}
    assert first == {"queue": name, "reason": "expired", "exchange": exchange}


def a_dead_letter_keeps_its_properties(bench: Bench) -> None:
    name, dead = bench.with_dead_letters()
    bench.publish(name, ttl=SHORT, message_id="7", headers={"a": 1}, delivery_mode=2)
    got = bench.take(dead)
    assert (got.properties.message_id, got.headers["a"], got.properties.delivery_mode) == ("7", 1, 2)


def a_dead_letter_keeps_its_key_without_another(bench: Bench) -> None:
    exchange = bench.exchange("fanout")
    dead = bench.bound(exchange, "", "dead")
    name = bench.queue(dead_letter_exchange=exchange)
    bench.publish(name, ttl=SHORT)
    got = bench.take(dead)
    assert (got.exchange, got.routing_key) == (exchange, name)


def a_dead_letter_has_the_key_of_its_queue(bench: Bench) -> None:
    exchange = bench.exchange("fanout")
    dead = bench.bound(exchange, "", "dead")
    name = bench.queue(dead_letter_exchange=exchange, dead_letter_routing_key="other")
    bench.publish(name, ttl=SHORT)
    assert bench.take(dead).routing_key == "other"


def a_dead_letter_without_an_exchange_is_dropped(bench: Bench) -> None:
    name = bench.queue(dead_letter_exchange=bench.name("absent"))
    bench.publish(name, ttl=SHORT)
    bench.wait_depth(name, 0)


def a_message_that_would_expire_in_a_circle_is_dropped(bench: Bench) -> None:
    name = bench.name()
    bench.queue(message_ttl=SHORT, dead_letter_exchange="", dead_letter_routing_key=name)
    bench.publish(name)
    bench.wait_depth(name, 0)
    bench.let_pass()
    assert bench.depth(name) == 0


def a_delay_queue_delivers_later(bench: Bench) -> None:
    target = bench.queue("target")
    delay = bench.queue("delay", message_ttl=ANSWERED, dead_letter_exchange="", dead_letter_routing_key=target)
    bench.publish(delay, "a")
    assert bench.depth(target) == 0
    assert bench.take(target).body == "a"


def an_unused_queue_expires(bench: Bench) -> None:
    name = bench.queue(expires=SHORT)
    bench.eventually(lambda: not _is_declared(bench, name))


def a_queue_with_a_consumer_does_not_expire(bench: Bench) -> None:
    name = bench.queue(expires=ANSWERED)
    bench.consume(name)
    bench.let_pass(ANSWERED + SETTLED)
    assert bench.exists(name)


def the_messages_of_an_expired_queue_are_gone(bench: Bench) -> None:
    name, dead = bench.with_dead_letters(expires=SHORT)
    bench.publish(name)
    bench.eventually(lambda: not _is_declared(bench, name))
    assert bench.depth(dead) == 0


def _is_declared(bench: Bench, name: str) -> bool:
    """Whether a message reaches the queue; a declaration would keep the queue alive."""
    return bench.publish(name, mandatory=True) == "ack"
