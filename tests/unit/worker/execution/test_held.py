"""The record of the deliveries and executions that a group of tasks holds."""

from crew.worker.execution.held import Held
from tests.support.deliveries import a_delivery, an_execution


def test_deliveries_are_counted_for_each_queue_until_they_are_released() -> None:
    held = Held()
    first, second, other = a_delivery(), a_delivery(), a_delivery(task="other")
    for delivery in (first, second, other):
        held.accept(delivery)
    held.release(first)
    held.release(first)
    assert (held.count(second.queue), held.count(other.queue)) == (1, 1)


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
