"""The order in which hosts are tried."""

import itertools

from crew.amqp import hosts


def test_all_hosts_are_tried_in_turn_for_ever() -> None:
    assert list(itertools.islice(hosts.in_turn(("a", "b", "c"), place=4), 7)) == ["b", "c", "a", "b", "c", "a", "b"]


def test_one_host_is_tried_again_and_again() -> None:
    assert list(itertools.islice(hosts.in_turn(("a",), place=12345), 3)) == ["a", "a", "a"]


def test_processes_that_start_one_after_another_begin_with_different_hosts() -> None:
    first = hosts.own_place()
    assert {next(hosts.in_turn(("a", "b", "c"), place=place)) for place in range(first, first + 3)} == {"a", "b", "c"}


def test_the_links_of_one_process_begin_with_the_same_host() -> None:
    assert hosts.own_place() == hosts.own_place()
