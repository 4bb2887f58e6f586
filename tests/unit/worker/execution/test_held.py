"""The record of the deliveries and executions that a group of tasks holds."""

from crew.worker.execution.held import Held
from tests.support.deliveries import RecordingChannel, a_delivery, an_execution


def test_deliveries_are_counted_for_each_queue_until_they_are_acknowledged_or_requeued() -> None:
    held, channel = Held(), RecordingChannel()
    acknowledged, requeued, kept = a_delivery(channel), a_delivery(channel), a_delivery(channel)
    other = a_delivery(channel, task="other")
    for delivery in (acknowledged, requeued, kept, other):
        held.accept(delivery)
    assert held.acknowledge(acknowledged)
    assert held.requeue(requeued)
    assert (channel.acked, channel.requeued) == ([acknowledged.tag], [requeued.tag])
    assert (held.count(kept.queue), held.count(other.queue)) == (1, 1)


def test_a_delivery_that_is_settled_twice_is_no_longer_held() -> None:
    held, delivery = Held(), a_delivery()
    held.accept(delivery)
    held.acknowledge(delivery)
    held.acknowledge(delivery)
    assert held.count(delivery.queue) == 0


def test_a_delivery_whose_channel_is_gone_stays_until_all_are_lost() -> None:
    held, channel = Held(), RecordingChannel()
    delivery = a_delivery(channel)
    held.accept(delivery)
    channel.is_open = False
    assert not held.acknowledge(delivery)
    assert not held.requeue(delivery)
    assert held.count(delivery.queue) == 1


def test_lost_deliveries_are_held_no_longer() -> None:
    held = Held()
    delivery = a_delivery()
    held.accept(delivery)
    held.lose_deliveries()
    assert held.count(delivery.queue) == 0


def test_an_execution_waits_then_has_a_slot_then_is_removed_once() -> None:
    held, execution = Held(), an_execution()
    held.add(execution)
    assert (held.has_work, held.running(), held.is_full(1)) == (True, [], False)
    held.take_slot(execution)
    assert (held.running(), held.is_full(1), held.executions()) == ([execution], True, [execution])
    assert held.remove(execution)
    assert not held.remove(execution)
    assert not held.has_work


def test_an_execution_that_never_had_a_slot_is_removed() -> None:
    held, execution = Held(), an_execution()
    held.add(execution)
    assert held.remove(execution)
    assert execution not in held


def test_an_abandoned_execution_frees_its_slot_and_is_recorded_until_it_ends() -> None:
    held, execution = Held(), an_execution()
    held.take_slot(execution)
    held.abandon(execution)
    assert (held.running(), held.has_work, held.abandoned()) == ([], False, [execution])
    assert held.remove_abandoned(execution)
    assert not held.remove_abandoned(execution)


def test_an_execution_that_has_ended_is_not_abandoned() -> None:
    held = Held()
    held.abandon(an_execution())
    assert held.abandoned() == []


def test_the_repr_counts_what_is_held() -> None:
    held = Held()
    held.accept(a_delivery())
    held.add(an_execution())
    assert repr(held) == "<Held: 2 deliveries, 1 executions wait, 0 run, 0 are abandoned>"
