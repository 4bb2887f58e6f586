"""Cases: declaring and deleting queues and exchanges."""

from typing import Any

from tests.support.contract.bench import Bench, arguments_of


def _redeclared(bench: Bench, before: dict[str, Any], after: dict[str, Any]) -> tuple[int, str]:
    name = bench.queue(**before)
    durable = after.pop("durable", True)
    return bench.error(lambda channel: channel.queue_declare(name, durable=durable, arguments=arguments_of(after)))


def a_queue_may_be_declared_again(bench: Bench) -> None:
    assert bench.queue() == bench.queue()


def a_declared_queue_is_empty(bench: Bench) -> None:
    assert bench.depth(bench.queue()) == 0


def the_broker_names_a_queue_without_a_name(bench: Bench) -> None:
    name = bench.channel.queue_declare("", exclusive=True).method.queue
    assert name.startswith("amq.gen-")


def two_queues_without_a_name_are_two(bench: Bench) -> None:
    names = [bench.channel.queue_declare("", exclusive=True).method.queue for _ in range(2)]
    assert len(set(names)) == 2


def another_durability_is_refused(bench: Bench) -> None:
    code, text = _redeclared(bench, {}, {"durable": False})
    assert code == 406
    assert "inequivalent arg 'durable'" in text
    assert "received 'false' but current is 'true'" in text


def another_time_to_live_is_refused(bench: Bench) -> None:
    code, text = _redeclared(bench, {"message_ttl": 1000}, {"message_ttl": 2000})
    assert code == 406
    assert "inequivalent arg 'x-message-ttl'" in text
    assert "received '2000' but current is '1000'" in text


def an_additional_time_to_live_is_refused(bench: Bench) -> None:
    assert _redeclared(bench, {}, {"message_ttl": 2000})[0] == 406


def a_missing_argument_is_refused(bench: Bench) -> None:
    assert _redeclared(bench, {"message_ttl": 2000}, {})[0] == 406


def another_maximum_length_is_refused(bench: Bench) -> None:
    assert _redeclared(bench, {"max_length": 1}, {"max_length": 2})[0] == 406


def another_maximum_of_bytes_is_refused(bench: Bench) -> None:
    assert _redeclared(bench, {"max_length_bytes": 1}, {"max_length_bytes": 2})[0] == 406


def another_overflow_is_refused(bench: Bench) -> None:
    assert _redeclared(bench, {"overflow": "drop-head"}, {"overflow": "reject-publish"})[0] == 406


def another_expiry_is_refused(bench: Bench) -> None:
    assert _redeclared(bench, {"expires": 60000}, {"expires": 70000})[0] == 406


def another_dead_letter_exchange_is_refused(bench: Bench) -> None:
    assert _redeclared(bench, {"dead_letter_exchange": "a"}, {"dead_letter_exchange": "b"})[0] == 406


def another_dead_letter_key_is_refused(bench: Bench) -> None:
    before = {"dead_letter_exchange": "", "dead_letter_routing_key": "a"}
    assert _redeclared(bench, before, {**before, "dead_letter_routing_key": "b"})[0] == 406


def another_number_of_priorities_is_refused(bench: Bench) -> None:
    code, text = _redeclared(bench, {"max_priority": 2}, {"max_priority": 3})
    assert code == 406
    assert "inequivalent arg 'x-max-priority'" in text


def the_queue_type_classic_is_the_default(bench: Bench) -> None:
    name = bench.queue()
    bench.channel.queue_declare(name, durable=True, arguments={"x-queue-type": "classic"})


def an_unknown_argument_is_ignored(bench: Bench) -> None:
    name = bench.queue()
    bench.channel.queue_declare(name, durable=True, arguments={"x-of-somebody": 1})


def a_time_to_live_that_is_no_number_is_refused(bench: Bench) -> None:
    arguments = {"x-message-ttl": "soon"}
    assert bench.error(lambda channel: channel.queue_declare(bench.name(), arguments=arguments))[0] == 406


def a_negative_time_to_live_is_refused(bench: Bench) -> None:
    arguments = {"x-message-ttl": -1}
    assert bench.error(lambda channel: channel.queue_declare(bench.name(), arguments=arguments))[0] == 406


def an_expiry_of_zero_is_refused(bench: Bench) -> None:
    arguments = {"x-expires": 0}
    assert bench.error(lambda channel: channel.queue_declare(bench.name(), arguments=arguments))[0] == 406


def an_unknown_overflow_is_refused(bench: Bench) -> None:
    arguments = {"x-overflow": "explode"}
    assert bench.error(lambda channel: channel.queue_declare(bench.name(), arguments=arguments))[0] == 406


def a_dead_letter_key_needs_an_exchange(bench: Bench) -> None:
    arguments = {"x-dead-letter-routing-key": "a"}
    assert bench.error(lambda channel: channel.queue_declare(bench.name(), arguments=arguments))[0] == 406


def a_passive_declaration_ignores_the_arguments(bench: Bench) -> None:
    name = bench.queue(message_ttl=1000)
    assert bench.channel.queue_declare(name, passive=True).method.queue == name


def a_passive_declaration_of_an_absent_queue_fails(bench: Bench) -> None:
    code, text = bench.error(lambda channel: channel.queue_declare(bench.name("absent"), passive=True))
    assert code == 404
    assert f"no queue '{bench.name('absent')}' in vhost" in text


def an_error_closes_only_its_channel(bench: Bench) -> None:
    name = bench.queue()
    bench.error(lambda channel: channel.queue_declare(bench.name("absent"), passive=True))
    assert bench.publish(name) == "ack"


def a_queue_name_must_not_begin_with_amq(bench: Bench) -> None:
    assert bench.error(lambda channel: channel.queue_declare("amq.mine"))[0] == 403


def an_exchange_name_must_not_begin_with_amq(bench: Bench) -> None:
    assert bench.error(lambda channel: channel.exchange_declare("amq.mine", "direct"))[0] == 403


def an_exchange_may_be_declared_again(bench: Bench) -> None:
    assert bench.exchange("topic") == bench.exchange("topic")


def another_type_of_an_exchange_is_refused(bench: Bench) -> None:
    name = bench.exchange("topic")
    code, text = bench.error(lambda channel: channel.exchange_declare(name, "direct"))
    assert code == 406
    assert "inequivalent arg 'type'" in text


def another_durability_of_an_exchange_is_refused(bench: Bench) -> None:
    name = bench.exchange("topic", durable=True)
    assert bench.error(lambda channel: channel.exchange_declare(name, "topic"))[0] == 406


def a_passive_declaration_of_an_absent_exchange_fails(bench: Bench) -> None:
    assert bench.error(lambda channel: channel.exchange_declare(bench.name("absent"), passive=True))[0] == 404


def deleting_a_queue_counts_its_messages(bench: Bench) -> None:
    name = bench.queue()
    bench.publish(name, "a", "b")
    assert bench.channel.queue_delete(name).method.message_count == 2


def a_deleted_queue_is_gone(bench: Bench) -> None:
    name = bench.queue()
    bench.channel.queue_delete(name)
    assert not bench.exists(name)


def deleting_an_absent_queue_does_nothing(bench: Bench) -> None:
    assert bench.channel.queue_delete(bench.name("absent")).method.message_count == 0


def deleting_an_absent_exchange_does_nothing(bench: Bench) -> None:
    bench.channel.exchange_delete(bench.name("absent"))


def a_queue_with_messages_is_not_deleted_if_empty(bench: Bench) -> None:
    name = bench.queue()
    bench.publish(name)
    assert bench.error(lambda channel: channel.queue_delete(name, if_empty=True))[0] == 406


def a_queue_with_consumers_is_not_deleted_if_unused(bench: Bench) -> None:
    name = bench.queue()
    bench.consume(name)
    assert bench.error(lambda channel: channel.queue_delete(name, if_unused=True))[0] == 406


def an_exchange_with_bindings_is_not_deleted_if_unused(bench: Bench) -> None:
    name = bench.exchange("fanout")
    bench.bound(name)
    assert bench.error(lambda channel: channel.exchange_delete(name, if_unused=True))[0] == 406


def a_purge_counts_and_removes_the_messages(bench: Bench) -> None:
    name = bench.queue()
    bench.publish(name, "a", "b", "c")
    assert bench.channel.queue_purge(name).method.message_count == 3
    assert bench.depth(name) == 0


def purging_an_absent_queue_fails(bench: Bench) -> None:
    assert bench.error(lambda channel: channel.queue_purge(bench.name("absent")))[0] == 404


def a_purge_leaves_what_is_not_acknowledged(bench: Bench) -> None:
    name = bench.queue()
    bench.publish(name, "a", "b")
    got = bench.get(name, ack=False)
    assert bench.channel.queue_purge(name).method.message_count == 1
    assert got is not None
    bench.channel.basic_nack(got.tag)
    assert bench.take(name).body == "a"


def a_quorum_queue_must_be_durable(bench: Bench) -> None:
    arguments = {"x-queue-type": "quorum"}
    assert bench.error(lambda channel: channel.queue_declare(bench.name(), arguments=arguments))[0] == 406


def a_quorum_queue_has_no_priority_argument(bench: Bench) -> None:
    arguments = {"x-queue-type": "quorum", "x-max-priority": 2}
    assert bench.error(lambda channel: channel.queue_declare(bench.name(), durable=True, arguments=arguments))[0] == 406


def binding_an_absent_queue_fails(bench: Bench) -> None:
    exchange = bench.exchange("topic")
    assert bench.error(lambda channel: channel.queue_bind(bench.name("absent"), exchange, "k"))[0] == 404


def binding_to_an_absent_exchange_fails(bench: Bench) -> None:
    name = bench.queue()
    assert bench.error(lambda channel: channel.queue_bind(name, bench.name("absent"), "k"))[0] == 404


def the_default_exchange_has_no_other_bindings(bench: Bench) -> None:
    name = bench.queue()
    assert bench.error(lambda channel: channel.queue_bind(name, "", "k"))[0] == 403
