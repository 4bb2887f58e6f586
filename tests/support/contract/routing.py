"""Cases: which queues get a message."""

from typing import Any

from tests.support.contract.bench import Bench


def _reaches(bench: Bench, binding: str, key: str) -> bool:
    exchange = bench.exchange("topic")
    bench.bound(exchange, binding)
    return bench.publish(key, exchange=exchange, mandatory=True) == "ack"


def _headers_reach(bench: Bench, arguments: dict[str, Any], headers: dict[str, Any]) -> bool:
    exchange = bench.exchange("headers")
    queue = bench.queue()
    bench.channel.queue_bind(queue, exchange, "", arguments=arguments)
    return bench.publish("", exchange=exchange, mandatory=True, headers=headers) == "ack"


def the_default_exchange_routes_to_the_queue_of_that_name(bench: Bench) -> None:
    name = bench.queue()
    bench.publish(name, "a")
    assert bench.take(name).body == "a"


def a_direct_exchange_compares_the_key(bench: Bench) -> None:
    exchange = bench.exchange("direct")
    bench.bound(exchange, "a")
    assert bench.publish("a", exchange=exchange, mandatory=True) == "ack"
    assert bench.publish("b", exchange=exchange, mandatory=True) == "returned"


def a_fanout_exchange_ignores_the_key(bench: Bench) -> None:
    exchange = bench.exchange("fanout")
    queues = [bench.bound(exchange, "a", name) for name in ("q1", "q2")]
    bench.publish("z", exchange=exchange)
    assert [bench.take(queue).body for queue in queues] == ["m", "m"]


def a_topic_word_matches_itself(bench: Bench) -> None:
    assert _reaches(bench, "a.b", "a.b")


def a_topic_word_matches_no_other(bench: Bench) -> None:
    assert not _reaches(bench, "a.b", "a.c")


def a_star_is_one_word(bench: Bench) -> None:
    assert _reaches(bench, "a.*", "a.b")


def a_star_is_not_two_words(bench: Bench) -> None:
    assert not _reaches(bench, "a.*", "a.b.c")


def a_star_is_not_nothing(bench: Bench) -> None:
    assert not _reaches(bench, "a.*", "a")


def a_star_may_be_first(bench: Bench) -> None:
    assert _reaches(bench, "*.b", "a.b")


def a_hash_is_everything(bench: Bench) -> None:
    assert _reaches(bench, "#", "a.b.c")


def a_hash_is_nothing_too(bench: Bench) -> None:
    assert _reaches(bench, "a.#", "a")


def a_hash_is_several_words(bench: Bench) -> None:
    assert _reaches(bench, "a.#", "a.b.c")


def a_hash_may_be_first(bench: Bench) -> None:
    assert _reaches(bench, "#.c", "a.b.c")


def a_first_hash_may_be_nothing(bench: Bench) -> None:
    assert _reaches(bench, "#.c", "c")


def a_hash_may_be_in_the_middle(bench: Bench) -> None:
    assert _reaches(bench, "a.#.c", "a.x.y.c")


def a_hash_in_the_middle_may_be_nothing(bench: Bench) -> None:
    assert _reaches(bench, "a.#.c", "a.c")


def a_hash_does_not_match_half_a_word(bench: Bench) -> None:
    assert not _reaches(bench, "a.#", "ab")


def a_dot_is_no_pattern(bench: Bench) -> None:
    assert not _reaches(bench, "a.b", "axb")


def all_headers_must_match(bench: Bench) -> None:
    assert not _headers_reach(bench, {"a": 1, "b": 2}, {"a": 1})


def matching_headers_match(bench: Bench) -> None:
    assert _headers_reach(bench, {"a": 1, "b": "x"}, {"a": 1, "b": "x", "c": 3})


def one_header_is_enough_for_any(bench: Bench) -> None:
    assert _headers_reach(bench, {"x-match": "any", "a": 1, "b": 2}, {"a": 1})


def no_header_is_not_enough_for_any(bench: Bench) -> None:
    assert not _headers_reach(bench, {"x-match": "any", "a": 1}, {"a": 2})


def a_binding_by_an_x_header_matches_everything(bench: Bench) -> None:
    assert _headers_reach(bench, {"x-client": "a"}, {"x-client": "b"})


def an_x_header_counts_with_all_with_x(bench: Bench) -> None:
    assert not _headers_reach(bench, {"x-match": "all-with-x", "x-client": "a"}, {"x-client": "b"})


def an_x_header_may_match_with_all_with_x(bench: Bench) -> None:
    assert _headers_reach(bench, {"x-match": "all-with-x", "x-client": "a"}, {"x-client": "a"})


def a_queue_with_two_matching_bindings_gets_one_message(bench: Bench) -> None:
    exchange = bench.exchange("topic")
    queue = bench.bound(exchange, "a.*")
    bench.channel.queue_bind(queue, exchange, "#")
    bench.publish("a.b", exchange=exchange)
    assert bench.bodies(queue) == ["m"]


def an_unbound_queue_gets_nothing(bench: Bench) -> None:
    exchange = bench.exchange("topic")
    queue = bench.bound(exchange, "a")
    bench.channel.queue_unbind(queue, exchange, "a")
    assert bench.publish("a", exchange=exchange, mandatory=True) == "returned"


def a_deleted_queue_is_not_bound_any_longer(bench: Bench) -> None:
    exchange = bench.exchange("topic")
    queue = bench.bound(exchange, "a")
    bench.channel.queue_delete(queue)
    bench.queue()
    assert bench.publish("a", exchange=exchange, mandatory=True) == "returned"


def an_auto_delete_exchange_goes_with_its_last_binding(bench: Bench) -> None:
    exchange = bench.exchange("topic", auto_delete=True)
    queue = bench.bound(exchange, "a")
    bench.channel.queue_unbind(queue, exchange, "a")
    assert bench.error(lambda channel: channel.exchange_declare(exchange, passive=True))[0] == 404


def a_predeclared_exchange_routes(bench: Bench) -> None:
    queue = bench.bound("amq.topic", bench.name("k"))
    bench.publish(bench.name("k"), exchange="amq.topic")
    assert bench.take(queue).routing_key == bench.name("k")


def a_copy_goes_to_each_key_in_cc(bench: Bench) -> None:
    first, second = bench.queue("q1"), bench.queue("q2")
    bench.publish(first, headers={"CC": [second]})
    assert bench.take(first).body == bench.take(second).body == "m"
